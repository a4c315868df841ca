"""``ladic pretrain-image``: an image encoder from nothing but captioned pictures, with no hub.

The encoder learns to say, token by token, which words and short phrases the picture's captions have. A phrase is in
the picture if some token says so (weak supervision, see ``ladic.phrases``), so that "striped", "red" and "striped red
circle" end up in the token where the thing is. The result is a safetensors file for an encoder's ``weights``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ladic.cli.fitting import check_numbers, check_output
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
    check_numbers(options, "phrase", "steps", "batch_size")

    import torch
    from safetensors.torch import save

    from ladic.cli.lightning_cli import model_part, parse, spec_of
    from ladic.components import ImageEncoder
    from ladic.datamodules import CaptionDataModule
    from ladic.datamodules.broken import without_broken
    from ladic.json_files import write_whole
    from ladic.spec import build

    torch.manual_seed(options.seed)
    config = parse(["-c", options.config, *options.overrides])
    check_output(options.output)
    datamodule = build(spec_of(config.data), CaptionDataModule)
    fresh = {"weights": None, "frozen": False}
    encoder = build(model_part(config, "image_encoder"), ImageEncoder, fresh)
    source = datamodule.split("train")
    if datamodule.skip_broken:
        source = without_broken(source, datamodule.skip_broken, None)
    pretrain(encoder, source, options)
    tensors = {name: value.half().contiguous() for name, value in encoder.state_dict().items()}
    write_whole(options.output, save(tensors))
    print(f"wrote {options.output}; use it with --model.image_encoder.weights={options.output}")


def pretrain(encoder: ImageEncoder, source: CaptionSource, options: Any) -> None:
    """Trains the encoder in place."""
    import torch
    from torch import nn

    from ladic.datamodules.transforms import to_tensor
    from ladic.losses import phrase_presence_loss
    from ladic.phrases import PhraseDetector, frequent_phrases
    from ladic.precision import fast_autocast

    phrases = frequent_phrases(sample(source), options.phrase, options.least)
    if not phrases:
        raise UsageError(f"--least {options.least}: no phrase is in so many pictures; give a smaller share")
    detector = PhraseDetector(phrases, encoder.width, encoder.num_tokens)
    parameters = [*encoder.parameters(), *detector.parameters()]
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
                labels[row] = detector.present(source.captions(row))
            present[place, labels[row]] = 1
        with fast_autocast():
            logits = detector(encoder(images))
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


def sample(source: CaptionSource, size: int = 3000) -> Iterator[list[str]]:
    """Captions of the first pictures, picture by picture."""
    for index in range(min(size, len(source))):
        yield source.captions(index)
