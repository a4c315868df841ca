"""``ladic fit-ngrams``: how often words follow each other in training captions, for ``NgramRounding``."""

from __future__ import annotations

from pathlib import Path

from ladic.cli.fitting import check_output
from ladic.cli.parser import LineParser
from ladic.errors import UsageError


def main(argv: list[str]) -> None:
    """Counts and writes."""
    parser = LineParser("ladic fit-ngrams", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-c", "--config", required=True, help="configuration with the latent space and the datamodule")
    parser.add_argument("--output", required=True, type=Path, help="file to write (.safetensors)")
    parser.add_argument("overrides", nargs="*", help="flags for the configuration, after --")
    options = parser.parse_args(argv)
    if options.output.suffix != ".safetensors":
        raise UsageError(f"--output {options.output}: the name must end in .safetensors")

    from ladic.cli.lightning_cli import model_part, parse, spec_of
    from ladic.components import TextLatentSpace
    from ladic.datamodules import CaptionDataModule
    from ladic.rounding import TrigramModel
    from ladic.spec import build

    config = parse(["-c", options.config, *options.overrides])
    check_output(options.output)
    captions = build(spec_of(config.data), CaptionDataModule).train_captions()
    space = build(model_part(config, "latent_space"), TextLatentSpace, {"fitted": None})
    tokens = space.tokenize(captions)
    model = TrigramModel.count(tokens.input_ids, tokens.attention_mask.sum(1))
    model.save(options.output)
    words, pairs, triples = (len(model.tables[f"{size}.keys"]) for size in ("words", "pairs", "triples"))
    print(f"{len(captions)} captions: {words} words, {pairs} pairs and {triples} triples of them")
    print(
        f"wrote {options.output}; use it with --model.rounding=NgramRounding --model.rounding.ngrams={options.output}"
    )
