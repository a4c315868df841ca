"""``ladic report``: one HTML page about a run, from the files it wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ladic.cli.parser import LineParser
from ladic.errors import UsageError


def main(argv: list[str]) -> None:
    """Writes ``report.html`` into the run's folder."""
    parser = LineParser("ladic report", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("-c", "--config", required=True, help="its configuration, for pictures and references")
    parser.add_argument("--split", choices=["val", "test"], default="test", help="(default %(default)s)")
    parser.add_argument("--images", type=int, default=12, help="pictures to show (default %(default)s)")
    parser.add_argument("--output", type=Path, help="instead of RUN/report.html")
    parser.add_argument("overrides", nargs="*", help="flags for the configuration, after --")
    options = parser.parse_args(argv)
    if options.images < 0:
        raise UsageError(f"--images {options.images}: need 0 or more")
    results, scores = (read(options.run, f"{name}_{options.split}.json") for name in ("results", "scores"))

    from ladic.cli.lightning_cli import parse, spec_of
    from ladic.datamodules import CaptionDataModule
    from ladic.plots import read_curves, training_figure
    from ladic.report import page
    from ladic.spec import build

    config = parse(["-c", options.config, *options.overrides])
    datamodule = build(spec_of(config.data), CaptionDataModule)
    captions = {str(entry["image_id"]): entry["caption"] for entry in results}
    examples = collect(datamodule, options.split, captions, options.images)
    curves = read_curves(options.run)
    last = {name: curves[f"{options.split}/{name}"][-1][1] for name in TRUTH if f"{options.split}/{name}" in curves}
    facts = {
        "split": f"{options.split}, {scores['images']} images",
        "step": str(scores["step"]),
        "seconds for captioning and scoring": str(scores["seconds"]),
    }
    output = options.output or options.run / "report.html"
    output.write_text(
        page(f"LaDiC: {options.run}", facts, {**scores["scores"], **last}, examples, training_figure(curves)),
        encoding="utf-8",
    )
    print_table(examples)
    for name, value in last.items():
        print(f"{options.split} {name.replace('_', ' ')}: {100 * value:.1f} %")
    print(f"wrote {output.resolve()}")


TRUTH = ("wholly_true", "objects_named")


def collect(datamodule: Any, split: str, captions: dict[str, str], limit: int) -> list[Any]:
    """The first captioned pictures of a split, with the claims checked where the data can."""
    from ladic.report import Example

    source = datamodule.split(split)
    examples: list[Any] = []
    for index in range(len(source)):
        if len(examples) == limit:
            break
        image_id = source.image_id(index)
        caption = captions.get(str(image_id))
        if caption is None:
            continue
        verdict = datamodule.truth(split, image_id, caption) if hasattr(datamodule, "truth") else None
        claims = [] if verdict is None else [(claim.text, claim.holds) for claim in verdict.claims]
        if verdict is not None and verdict.unparsed:
            claims.append((f"not understood: {' '.join(verdict.unparsed)}", False))
        missing = [] if verdict is None else list(verdict.missing)
        examples.append(Example(str(image_id), source.image(index), caption, source.captions(index), claims, missing))
    return examples


def print_table(examples: list[Any]) -> None:
    """The captions in the terminal, with a mark where their truth is known."""
    for example in examples:
        mark = "" if not example.claims else ("✓ " if all(holds for _, holds in example.claims) else "✗ ")
        print(f"  {mark}{example.image_id}: {example.caption}")


def read(run: Path, name: str) -> Any:
    """A JSON file of a run.

    Raises:
        UsageError: if it isn't there or is broken.
    """
    try:
        return json.loads((run / name).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"'{run}': no {name} in it; run `ladic test` (or validate) with this folder first") from error
    except json.JSONDecodeError as error:
        raise UsageError(f"'{run / name}': not JSON ({error}); run `ladic test` again") from error
