"""``ladic fit-phrases``: a detector of caption phrases on frozen image tokens, for ``PhraseSelector``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ladic.cli.fitting import check_numbers, check_output
from ladic.cli.parser import LineParser
from ladic.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from ladic.cli.token_reader import TokenReader


def main(argv: list[str]) -> None:
    """Trains the detector on the training split and says how well it does on the validation split."""
    parser = LineParser("ladic fit-phrases", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-c", "--config", required=True, help="configuration with the encoder and the datamodule")
    parser.add_argument("--output", required=True, type=Path, help="file to write (.safetensors)")
    parser.add_argument("--phrase", type=int, default=3, help="longest phrase in words (default %(default)s)")
    parser.add_argument(
        "--least", type=float, default=0.002, help="least share of pictures with a phrase (default %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*", help="flags for the configuration, after --; --data.features=DIR helps")
    options = parser.parse_args(argv)
    if options.output.suffix != ".safetensors":
        raise UsageError(f"--output {options.output}: the name must end in .safetensors")
    check_numbers(options, "phrase", "steps", "batch_size")

    import torch

    from ladic.cli.lightning_cli import model_part, parse, spec_of
    from ladic.cli.token_reader import TokenReader
    from ladic.components import ImageEncoder
    from ladic.datamodules import CaptionDataModule
    from ladic.spec import build

    torch.manual_seed(options.seed)
    config = parse(["-c", options.config, *options.overrides])
    check_output(options.output)
    encoder = build(model_part(config, "image_encoder"), ImageEncoder)
    datamodule = build(spec_of(config.data), CaptionDataModule)
    tokens = {split: TokenReader(datamodule, encoder, split) for split in ("train", "val")}
    detector = fit(tokens["train"], encoder, options)
    detector.save(options.output)
    loss, baseline = held_out(detector, tokens["val"])
    print(f"validation: {loss:.1f} nats a picture for all phrases, {baseline:.1f} if only their shares were known")
    print(
        f"wrote {options.output}; use it with --model.selector=PhraseSelector --model.selector.weights={options.output}"
    )


def fit(reader: TokenReader, encoder: Any, options: Any) -> Any:
    """The trained detector."""
    import torch

    from ladic.losses import phrase_presence_loss
    from ladic.phrases import PhraseDetector, frequent_phrases
    from ladic.precision import fast_autocast

    looked_at = range(min(5000, len(reader)))
    phrases = frequent_phrases((reader.captions(row) for row in looked_at), options.phrase, options.least)
    if not phrases:
        raise UsageError(f"--least {options.least}: no phrase is in so many pictures; give a smaller share")
    detector = PhraseDetector(phrases, encoder.width, encoder.num_tokens)
    optimizer = torch.optim.AdamW(detector.parameters(), options.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.learning_rate, total_steps=options.steps)
    print(f"fit-phrases: {len(reader)} pictures, {len(phrases)} phrases, {options.steps} steps", flush=True)
    labels: dict[int, Tensor] = {}
    started = time.perf_counter()
    for step in range(options.steps):
        rows = torch.randint(len(reader), (options.batch_size,)).tolist()
        present = torch.zeros(len(rows), len(phrases))
        for place, row in enumerate(rows):
            if row not in labels:
                labels[row] = detector.present(reader.captions(row))
            present[place, labels[row]] = 1
        tokens = reader.tokens(rows)
        with fast_autocast():
            logits = detector(tokens)
        loss = phrase_presence_loss(logits, present).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % max(1, options.steps // 10) == 0:
            elapsed = time.perf_counter() - started
            print(f"  step {step + 1}/{options.steps}  loss {loss.item():.1f}  {elapsed:.0f} s", flush=True)
    return detector.eval()


def held_out(detector: Any, reader: TokenReader, most: int = 500) -> tuple[float, float]:
    """Cross-entropy a picture of the detector, and of one that knows only how frequent each phrase is."""
    import torch
    from torch.nn import functional as F

    from ladic.losses import phrase_presence_loss

    rows = list(range(min(most, len(reader))))
    present = torch.zeros(len(rows), len(detector.phrases))
    for row in rows:
        present[row, detector.present(reader.captions(row))] = 1
    share = torch.tensor(list(detector.phrases.values())).clamp(1e-6, 1 - 1e-6).expand_as(present)
    with torch.no_grad():
        losses = [
            phrase_presence_loss(detector(reader.tokens(rows[i : i + 50])), present[i : i + 50])
            for i in range(0, len(rows), 50)
        ]
    baseline = F.binary_cross_entropy(share, present, reduction="none").sum(-1)
    return torch.cat(losses).mean().item(), baseline.mean().item()
