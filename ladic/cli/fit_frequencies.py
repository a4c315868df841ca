"""``ladic fit-frequencies``: in how many pictures' training captions each n-gram stands, for CIDEr-D as a utility."""

from __future__ import annotations

from pathlib import Path

from ladic.cli.fitting import check_output
from ladic.cli.parser import LineParser
from ladic.errors import UsageError


def main(argv: list[str]) -> None:
    """Counts and writes."""
    parser = LineParser("ladic fit-frequencies", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-c", "--config", required=True, help="configuration with the datamodule")
    parser.add_argument("--output", required=True, type=Path, help="file to write (.json.gz)")
    parser.add_argument("overrides", nargs="*", help="flags for the configuration, after --")
    options = parser.parse_args(argv)
    if not options.output.name.endswith(".json.gz"):
        raise UsageError(f"--output {options.output}: the name must end in .json.gz")

    from ladic.cli.lightning_cli import parse, spec_of
    from ladic.datamodules import CaptionDataModule
    from ladic.metrics.functional.cider import DocumentFrequencies
    from ladic.metrics.functional.ptb_tokenizer import ptb_tokenize_all
    from ladic.spec import build

    config = parse(["-c", options.config, *options.overrides])
    check_output(options.output)
    source = build(spec_of(config.data), CaptionDataModule).split("train")
    table = DocumentFrequencies.from_references([ptb_tokenize_all(source.captions(i)) for i in range(len(source))])
    table.save(options.output)
    print(f"{table.num_images} pictures, {len(table.counts)} n-grams")
    print(f"wrote {options.output}; use it with `ladic caption --utility cider --frequencies {options.output}`")
