"""``ladic pretrain-text``: a small BERT and its tokenizer from a datamodule's captions, with no hub.

Masked-language modelling as in BERT (Devlin et al. 2019, §3.1): of the tokens, a share is chosen; of these 80 % become
[MASK], 10 % a random token, 10 % stay. The result is a folder that transformers loads.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ladic.cli.fitting import check_numbers, check_output
from ladic.cli.parser import LineParser
from ladic.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


def main(argv: list[str]) -> None:
    """Trains and writes the folder."""
    parser = LineParser("ladic pretrain-text", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-c", "--config", required=True, help="configuration whose datamodule gives the captions")
    parser.add_argument("--output", required=True, type=Path, help="folder to write (config, weights, tokenizer)")
    parser.add_argument("--captions", type=int, default=100_000, help="use at most so many (default %(default)s)")
    parser.add_argument("--vocabulary", type=int, default=8000, help="word pieces at most (default %(default)s)")
    parser.add_argument("--hidden-size", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--length", type=int, default=64, help="longest caption in tokens (default %(default)s)")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--mask", type=float, default=0.25, help="share of tokens to predict (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*", help="flags for the configuration, after --")
    options = parser.parse_args(argv)
    check_numbers(options, "captions", "vocabulary", "hidden_size", "layers", "heads", "steps", "batch_size")
    if options.length < 3:
        raise UsageError(f"--length {options.length}: need at least 3, for a word between [CLS] and [SEP]")
    if options.hidden_size % options.heads:
        raise UsageError(f"--hidden-size {options.hidden_size}: must divide by --heads {options.heads}")
    if not 0 < options.mask < 1:
        raise UsageError(f"--mask {options.mask}: a share lies between 0 and 1")

    from ladic.cli.lightning_cli import parse, spec_of
    from ladic.datamodules import CaptionDataModule
    from ladic.spec import build

    config = parse(["-c", options.config, *options.overrides])
    check_output(options.output, folder=True)
    datamodule = build(spec_of(config.data), CaptionDataModule)
    captions = datamodule.train_captions(options.captions)
    pretrain(captions, options)


def pretrain(captions: list[str], options: Any) -> None:
    """Trains tokenizer and model on captions and saves both."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    from ladic.precision import fast_autocast

    torch.manual_seed(options.seed)
    tokenizer = train_tokenizer(captions, options.vocabulary, options.length)
    tokens = tokenizer(captions, truncation=True, padding=True, max_length=options.length, return_tensors="pt")
    ids, mask = tokens["input_ids"], tokens["attention_mask"]
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=options.hidden_size,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        intermediate_size=4 * options.hidden_size,
        max_position_embeddings=options.length,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = BertForMaskedLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), options.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.learning_rate, total_steps=options.steps)
    print(f"pretrain-text: {len(captions)} captions, {len(tokenizer)} word pieces, {options.steps} steps", flush=True)
    started = time.perf_counter()
    for step in range(options.steps):
        rows = torch.randint(len(ids), (options.batch_size,))
        batch_mask = mask[rows]
        length = int(batch_mask.sum(1).max())
        inputs, labels = mask_tokens(ids[rows, :length], batch_mask[:, :length], tokenizer, options.mask)
        with fast_autocast():
            loss = model(input_ids=inputs, attention_mask=batch_mask[:, :length], labels=labels).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % max(1, options.steps // 10) == 0:
            elapsed = time.perf_counter() - started
            print(f"  step {step + 1}/{options.steps}  loss {loss.item():.3f}  {elapsed:.0f} s", flush=True)
    save(options.output, model, tokenizer)
    print(f"wrote {options.output}")


def save(folder: Path, *parts: Any) -> None:
    """Writes each file whole or not at all, the weights last."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="part-") as temporary:
        for part in parts:
            part.save_pretrained(temporary)
        for file in sorted(Path(temporary).iterdir(), key=lambda file: file.suffix == ".safetensors"):
            os.replace(file, folder / file.name)


def train_tokenizer(captions: list[str], size: int, length: int) -> Any:
    """A lower-casing WordPiece tokenizer with BERT's special tokens."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # The trainer numbers pieces inside words in the order of a hash table, another one in every run, unless they are
    # there from the start; and as its special tokens they would be erased from captions, so the model is made anew.
    letters = sorted({letter for caption in captions for letter in tokenizer.normalizer.normalize_str(caption)})
    inside = [f"##{letter}" for letter in letters if not letter.isspace()]
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=special + inside, show_progress=False)
    tokenizer.train_from_iterator(captions, trainer)
    vocabulary = tokenizer.get_vocab()
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    made.add_special_tokens(special)
    tokenizer = made
    tokenizer.decoder = decoders.WordPiece()
    ends = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", ends)
    names = {
        name: f"[{name[:-6].upper()}]" for name in ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    }
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=length, **names)


def mask_tokens(ids: Tensor, mask: Tensor, tokenizer: Any, share: float) -> tuple[Tensor, Tensor]:
    """Inputs with masked tokens and labels (-100 where nothing is asked), both (B, L)."""
    import torch

    special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids)) | (mask == 0)
    chosen = (torch.rand(ids.shape) < share) & ~special
    labels = ids.masked_fill(~chosen, -100)
    how = torch.rand(ids.shape)
    inputs = ids.masked_fill(chosen & (how < 0.8), tokenizer.mask_token_id)
    random = torch.randint(len(tokenizer), ids.shape)
    return torch.where(chosen & (how >= 0.9), random, inputs), labels
