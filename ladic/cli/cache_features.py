"""``ladic cache-features``: runs a frozen image encoder once over a datamodule's pictures and keeps the tokens."""

from __future__ import annotations

from pathlib import Path

from ladic.cli.parser import LineParser
from ladic.errors import UsageError


def main(argv: list[str]) -> None:
    """Writes the cache; the same command after an interruption goes on where it stopped."""
    parser = LineParser("ladic cache-features", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-c", "--config", required=True, help="configuration with the encoder and the datamodule")
    parser.add_argument("--output", required=True, type=Path, help="folder to write")
    parser.add_argument("--splits", default="train,val", help="splits, comma-separated (default %(default)s)")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("overrides", nargs="*", help="flags for the configuration, after --")
    options = parser.parse_args(argv)
    splits = options.splits.split(",")
    if not set(splits) <= {"train", "val", "test"}:
        raise UsageError(f"--splits {options.splits}: accepted are train, val and test")

    import torch
    from rich.progress import track

    from ladic.cli.lightning_cli import parse, spec_of
    from ladic.components import ImageEncoder
    from ladic.datamodules import CaptionDataModule
    from ladic.datamodules.transforms import to_tensor
    from ladic.features import FeatureWriter, begin_cache, fingerprint
    from ladic.spec import build

    config = parse(["-c", options.config, *options.overrides])
    datamodule = build(spec_of(config.data), CaptionDataModule)
    encoder = build(spec_of(config.model.image_encoder), ImageEncoder)
    if not encoder.frozen:
        raise UsageError("model.image_encoder: it is trained (frozen=False), so its tokens can't be cached")
    made_by = fingerprint(encoder, encoder.preprocess)
    begin_cache(options.output, made_by | {"num_tokens": encoder.num_tokens, "width": encoder.width})
    for split in splits:
        source = datamodule.split(split)
        ids = [source.image_id(index) for index in range(len(source))]
        writer = FeatureWriter(options.output, split, ids, (encoder.num_tokens, encoder.width))
        starts = range(writer.done, len(source), options.batch_size)
        for start in track(starts, description=f"{split}: {len(source)} images", disable=not starts):
            rows = range(start, min(start + options.batch_size, len(source)))
            images = torch.stack([to_tensor(source.image(index), encoder.preprocess) for index in rows])
            with torch.inference_mode():
                writer.write(encoder(images))
        print(f"{split}: {len(source)} images, {encoder.num_tokens} tokens of {encoder.width}")
    print(f"wrote {options.output}; train with --data.features={options.output}")
