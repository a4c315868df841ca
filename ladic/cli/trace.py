"""``ladic trace``: a caption at every step of its making."""

from __future__ import annotations

from pathlib import Path

from ladic.cli.model_options import add_length_options, add_model_options, add_rounding_option, check, length_range
from ladic.cli.parser import LineParser
from ladic.errors import UsageError

KINDS = (".png", ".gif", ".html")


def main(argv: list[str]) -> None:
    """Prints the table and writes what was asked for."""
    parser = LineParser("ladic trace", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("image", metavar="IMAGE", help="picture file")
    add_model_options(parser)
    parser.add_argument("--reference", help="a true caption, to measure the distance to")
    parser.add_argument(
        "-o", "--output", type=Path, action="append", default=[], help="file.png, .gif or .html; may be given again"
    )
    add_length_options(parser)
    add_rounding_option(parser)
    options = parser.parse_args(argv)
    check(options)
    length = length_range(options)
    for output in options.output:
        if output.suffix.lower() not in KINDS:
            raise UsageError(f"--output {output}: accepted are names that end in {', '.join(KINDS)}")
        if not output.absolute().parent.is_dir():
            raise UsageError(f"--output {output}: no folder {output.absolute().parent}; make it first")

    from rich.console import Console

    from ladic.captioner import LatentDiffusionCaptioner
    from ladic.cli.model_options import load_model
    from ladic.trace_pictures import trace_gif, trace_html, trace_png
    from ladic.trace_text import trace_table

    model = load_model(options, LatentDiffusionCaptioner)
    (trace,) = model.trace(options.image, options.reference, length=length)
    Console().print(trace_table(trace))
    print(f"{trace.nfe} network evaluations")
    for output in options.output:
        kind = output.suffix.lower()
        if kind == ".html":
            output.write_text(trace_html(trace), encoding="utf-8")
        else:
            output.write_bytes(trace_png(trace) if kind == ".png" else trace_gif(trace))
        print(f"wrote {output}")
