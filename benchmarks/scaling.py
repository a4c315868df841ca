"""``python -m benchmarks.scaling``: seconds of captioning against length, candidates, batch and image size.

The full-size model with random weights, 5 guided evaluations, from pixels to strings; all but what a table varies is
the paper's, at ``--batch`` pictures. The values of a table take turns in one run, and each table is a row of
``--work``. Writes ``results/scaling.md`` and ``.png``.

An estimated 15 minutes in bf16 on two cores, an hour in fp32; 6 GB.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from benchmarks.figures import plot
from benchmarks.full_size import POSITIONS, SIZES, at_length, full_size, image_encoder, pictures, runner
from benchmarks.pages import conditions, count, left_out, options, publish, table
from benchmarks.rows import Cell, Rows
from benchmarks.timing import interleaved

STEPS, LENGTH, PATCH = 5, 24, 16
TABLES = {
    "lengths": ("positions", [8, 16, 24, 32, 60, 120]),
    "candidates": ("candidates", [1, 2, 5, 10, 20]),
    "batches": ("pictures at a time", [1, 2, 4, 8, 16, 32]),
    "image_sizes": ("pixels a side", [112, 160, 224, 288, 384]),
}
"""What each varies, and the values by default."""


def main(argv: list[str] | None = None) -> None:
    """Measures what isn't there yet and writes the page."""
    parser = options(__doc__ or "", "scaling")
    for name, (what, values) in TABLES.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=count, nargs="+", default=values, metavar="N", help=f"{what}, to compare")
    given = parser.parse_args(argv)
    for length in given.lengths:
        if not 3 <= length <= POSITIONS:
            parser.error(f"--lengths {length}: accepted are 3 to {POSITIONS}, the positions of the model")
    for side in given.image_sizes:
        if side % PATCH:
            parser.error(f"--image-sizes {side}: accepted are multiples of {PATCH}, the side of a patch")
    common = {"size": given.size, "precision": given.precision, "batch": given.batch, "rounds": given.rounds}
    rows = Rows(given.work / "rows.jsonl", **common)
    cells: list[Cell] = [{"table": name, "values": sorted(set(getattr(given, name)))} for name in TABLES]
    left = rows.fill(cells, lambda cell: {"seconds": measured(given, cell)}, given.minutes)
    write(given, [line for cell in cells if (line := rows.get(cell)) is not None], left)


def measured(given: Namespace, cell: Cell) -> list[float]:
    """Seconds of each of the cell's values."""
    size = SIZES[given.size]
    model = full_size(STEPS, size=size, length=LENGTH)
    run, (images, ids) = runner(model, given.precision), pictures(given.batch, size)

    def of_length(length: int) -> Callable[[], object]:
        return lambda: (at_length(model, length), run(images, ids))

    def of_image_size(side: int) -> Callable[[], object]:
        vit, space = image_encoder(size, side), model.latent_space  # only the ViT is another
        other = full_size(STEPS, size=size, encoder=vit, space=space, denoiser=lambda **_: model.denoiser)
        return partial(runner(other, given.precision), *pictures(given.batch, size, side))

    made: dict[str, Callable[[int], Callable[[], object]]] = {
        "lengths": of_length,
        "candidates": lambda number: partial(run, images, ids, number),
        "batches": lambda batch: partial(run, *pictures(batch, size)),
        "image_sizes": of_image_size,
    }
    times = interleaved({str(value): made[cell["table"]](value) for value in cell["values"]}, given.rounds, 1)
    return [times[str(value)] for value in cell["values"]]


def write(given: Namespace, lines: Sequence[Mapping[str, Any]], left: Sequence[Cell]) -> None:
    """The page and its plots."""
    page = [
        "# How captioning scales",
        "",
        "`python -m benchmarks.scaling`: the model at full size with random weights, from pixels to strings;",
        f"{STEPS} evaluations guided at scale 2 (NFE {2 * STEPS} a candidate). What a table doesn't vary is: {LENGTH} "
        f"positions, one candidate,",
        f"{given.batch} pictures at a time of {SIZES[given.size].image_size} pixels.",
        "",
    ]
    if lines:
        page += [
            conditions(given.precision, f"batch {given.batch}", "seed 0", f"{given.size} sizes", lines=lines),
            f"- medians of {given.rounds} rounds after one to warm up; the values of a table took turns in one run",
        ]
        panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
        for line in lines:
            name, values, seconds = line["cell"]["table"], line["cell"]["values"], line["seconds"]
            what = TABLES[name][0]
            panels[what] = {"a batch": list(zip(values, seconds, strict=True))}
            page += ["", f"## Seconds by {what}", "", *rows_of(given.batch, name, values, seconds)]
        page += ["", f"![seconds of a batch against each]({given.page.stem}.png)"]
        plot(given.page.with_suffix(".png"), panels, f"seconds, {given.precision}")
    publish(given.page, [*page, *left_out([cell["table"].replace("_", " ") for cell in left])])


def rows_of(batch: int, name: str, values: Sequence[int], seconds: Sequence[float]) -> list[str]:
    """A table: what was varied, seconds of a batch, of one caption, and as a multiple of the first."""
    rows = []
    for value, taken in zip(values, seconds, strict=True):
        captions = value if name == "batches" else batch * (value if name == "candidates" else 1)
        rows.append([str(value), f"{taken:.2f}", f"{taken / captions:.3f}", f"{taken / seconds[0]:.2f}"])
    return table([TABLES[name][0], "seconds a batch", "seconds a caption", "times the first"], rows)


if __name__ == "__main__":
    main()
