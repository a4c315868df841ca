"""``ladic pretrain-image``: an image encoder from nothing but captioned pictures, with no hub.

The encoder learns to say, token by token, which words and short phrases the picture's captions have. A phrase is in
the picture if some token says so (weak supervision as in Fang et al. 2015, "From Captions to Visual Concepts and
Back", §3, with a soft maximum), so that "striped", "red" and "striped red circle" end up in the token where the thing
is. The result is a safetensors file for an encoder's ``weights``.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ladic.cli.parser import LineParser
from ladic.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from ladic.components import ImageEncoder
    from ladic.datamodules import CaptionSource


def main(argv: list[str]) -> None:
    """Trains the configuration's encoder and writes its weights."""
    parser = LineParser("ladic pretrain-image", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-c", "--config", required=True, help="configuration with the encoder and the datamodule")
    parser.add_argument("--output", required=True, type=Path, help="file to write (.safetensors)")
    parser.add_argument("--phrase", type=int, default=3, help="longest phrase in words (default %(default)s)")
    parser.add_argument(
        "--least", type=float, default=0.005, help="least share of pictures with a phrase (default 0.005)"
    )
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*", help="flags for the configuration, after --")
    options = parser.parse_args(argv)
    if options.output.suffix != ".safetensors":
        raise UsageError(f"--output {options.output}: the name must end in .safetensors")

    import torch
    from safetensors.torch import save_file

    from ladic.cli.lightning_cli import parse, spec_of
    from ladic.components import ImageEncoder
    from ladic.datamodules import CaptionDataModule
    from ladic.spec import build

    torch.manual_seed(options.seed)
    config = parse(["-c", options.config, *options.overrides])
    datamodule = build(spec_of(config.data), CaptionDataModule)
    fresh = {"weights": None, "frozen": False}
    encoder = build(spec_of(config.model.image_encoder), ImageEncoder, fresh)
    pretrain(encoder, datamodule.split("train"), options)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.half().contiguous() for name, value in encoder.state_dict().items()}
    save_file(tensors, options.output)
    print(f"wrote {options.output}; use it with --model.image_encoder.weights={options.output}")


def pretrain(encoder: ImageEncoder, source: CaptionSource, options: Any) -> None:
    """Trains the encoder in place."""
    import torch
    from torch import nn

    from ladic.datamodules.transforms import to_tensor
    from ladic.losses import phrase_presence_loss

    phrases = frequent_phrases(source, options.phrase, options.least)
    head = nn.Linear(encoder.width, len(phrases))
    # Every phrase starts at its own frequency: otherwise the first hundred steps only learn which are rare.
    share = torch.tensor(list(phrases.values())).clamp(1e-3, 1 - 1e-3)
    with torch.no_grad():
        head.weight.mul_(0.1)
        head.bias.copy_(torch.logit(share) - torch.log(torch.tensor(float(encoder.num_tokens))))
    index = {phrase: number for number, phrase in enumerate(phrases)}
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, options.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.learning_rate, total_steps=options.steps)
    print(f"pretrain-image: {len(source)} pictures, {len(phrases)} phrases, {options.steps} steps", flush=True)
    labels: dict[int, Tensor] = {}
    started = time.perf_counter()
    encoder.train()
    for step in range(options.steps):
        rows = torch.randint(len(source), (options.batch_size,)).tolist()
        images = torch.stack([to_tensor(source.image(row), encoder.preprocess) for row in rows])
        present = torch.zeros(len(rows), len(phrases))
        for place, row in enumerate(rows):
            if row not in labels:
                found = phrases_of(source.captions(row), options.phrase) & index.keys()
                labels[row] = torch.tensor(sorted(index[phrase] for phrase in found), dtype=torch.long)
            present[place, labels[row]] = 1
        with torch.autocast("cpu", torch.bfloat16):
            logits = head(encoder(images))
        loss = phrase_presence_loss(logits, present).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % max(1, options.steps // 20) == 0:
            elapsed = time.perf_counter() - started
            print(f"  step {step + 1}/{options.steps}  loss {loss.item():.1f}  {elapsed:.0f} s", flush=True)
    encoder.eval()


def frequent_phrases(source: CaptionSource, longest: int, least: float, sample: int = 3000) -> dict[str, float]:
    """Phrases that more than ``least`` of the pictures have, and not nearly all, each with its share."""
    looked_at = min(sample, len(source))
    counts = Counter(phrase for index in range(looked_at) for phrase in phrases_of(source.captions(index), longest))
    shares = {phrase: count / looked_at for phrase, count in sorted(counts.items())}
    return {phrase: share for phrase, share in shares.items() if least <= share <= 0.995}


def phrases_of(captions: list[str], longest: int) -> set[str]:
    """Runs of one to ``longest`` words that occur in the captions.

    Example:
        >>> sorted(phrases_of(["a red dog"], 2))
        ['a', 'a red', 'dog', 'red', 'red dog']
    """
    found = set()
    for caption in captions:
        words = caption.replace(",", " ").split()
        found |= {
            " ".join(words[start : start + size])
            for size in range(1, longest + 1)
            for start in range(len(words) - size + 1)
        }
    return found
