"""``ladic fit-words``: the words and pairs of words that captions would have, for ``ExpectedCiderSelector``."""

from __future__ import annotations

from pathlib import Path

from ladic.cli.fitting import check_numbers, check_output
from ladic.cli.parser import LineParser
from ladic.errors import UsageError


def main(argv: list[str]) -> None:
    """Solves the regression on the training split and says what it explains on the validation split."""
    parser = LineParser("ladic fit-words", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-c", "--config", required=True, help="configuration with the encoder and the datamodule")
    parser.add_argument("--output", required=True, type=Path, help="file to write (.safetensors)")
    parser.add_argument("--least", type=int, default=20, help="pictures an n-gram must be in (default %(default)s)")
    parser.add_argument("--longest", type=int, default=2, help="words of the longest n-gram (default %(default)s)")
    parser.add_argument("--most", type=int, default=10_000, help="n-grams kept, by frequency (default %(default)s)")
    parser.add_argument(
        "--ridge", type=float, default=0.3, help="regularisation, as a part of the pictures (default %(default)s)"
    )
    parser.add_argument("--batch-size", type=int, default=64, help="pictures that are read at a time")
    parser.add_argument("overrides", nargs="*", help="flags for the configuration, after --; --data.features=DIR helps")
    options = parser.parse_args(argv)
    if options.output.suffix != ".safetensors":
        raise UsageError(f"--output {options.output}: the name must end in .safetensors")
    if not options.ridge > 0:
        raise UsageError(f"--ridge {options.ridge:g}: need more than 0")
    check_numbers(options, "least", "longest", "most", "batch_size")

    from ladic.cli.lightning_cli import model_part, parse, spec_of
    from ladic.cli.token_reader import TokenReader
    from ladic.components import ImageEncoder
    from ladic.datamodules import CaptionDataModule
    from ladic.expected_ngrams import ExpectedNgrams
    from ladic.spec import build

    config = parse(["-c", options.config, *options.overrides])
    check_output(options.output)
    encoder = build(model_part(config, "image_encoder"), ImageEncoder)
    datamodule = build(spec_of(config.data), CaptionDataModule)

    features, captions = TokenReader(datamodule, encoder, "train").pooled(options.batch_size)
    model = ExpectedNgrams.fit(features, captions, options.least, options.ridge, options.longest, options.most)
    model.save(options.output)
    words = sum(" " not in ngram for ngram in model.ngrams)
    print(f"fit-words: {len(captions)} pictures, {words} words and {len(model.ngrams) - words} longer n-grams")
    features, captions = TokenReader(datamodule, encoder, "val").pooled(options.batch_size)
    explained = model.explained(features, captions)
    print(f"validation: {100 * explained:.1f} % of what captions' n-grams vary by is told by the picture")
    print(
        f"wrote {options.output}; use it with --model.selector=ExpectedCiderSelector "
        f"--model.selector.words={options.output}"
    )
