"""``python -m benchmarks.memory``: peak memory of captioning and of training, against batch and caption length.

The full-size model with random weights; every number is of a process of its own. Captioning: 5 guided evaluations,
pictures to strings; for the second smallest batch once more with several candidates. Training: two steps of the
released recipe from cached image tokens (ours of ``benchmarks.training_step``). Writes ``results/memory.md`` and
``.png``.

An estimated 15 minutes in bf16 on two cores; a process takes 4 to 12 GB, less with smaller ``--batches``.
"""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from benchmarks.figures import plot
from benchmarks.full_size import SIZES, full_size, pictures, runner
from benchmarks.pages import conditions, count, left_out, options, publish, table
from benchmarks.peak import peak
from benchmarks.rows import Cell, Rows

STEPS = 5
CALLS = {"captioning": "benchmarks.memory:captioning", "training": "benchmarks.training_step:two_steps"}


def main(argv: list[str] | None = None) -> None:
    """Measures what isn't there yet and writes the page."""
    parser = options(__doc__ or "", "memory", batch=None, rounds=None)
    parser.add_argument("--batches", type=count, nargs="+", default=[1, 8, 32, 64], help="pictures at a time")
    parser.add_argument("--lengths", type=count, nargs="+", default=[24, 60], help="positions of a caption")
    parser.add_argument("--candidates", type=count, default=10, help="of a picture, in rows of the second batch")
    given = parser.parse_args(argv)
    rows = Rows(given.work / "rows.jsonl", size=given.size, precision=given.precision)
    cells: list[Cell] = [
        {"what": what, "length": length, "batch": batch}
        for what in CALLS
        for length in sorted(set(given.lengths))
        for batch in sorted(set(given.batches))
    ]
    several = sorted(set(given.batches))[:2][-1]
    cells += [
        {"what": "captioning", "length": length, "batch": several, "candidates": given.candidates}
        for length in sorted(set(given.lengths))
    ]
    left = rows.fill(cells, lambda cell: measured(given, cell), given.minutes)
    write(given, [line for cell in cells if (line := rows.get(cell)) is not None], left)


def measured(given: Namespace, cell: Cell) -> dict[str, Any]:
    """One process's memory."""
    sizes = {"size": given.size, "batch": cell["batch"], "length": cell["length"]}
    options = {"precision" if cell["what"] == "captioning" else "kind": given.precision}
    options |= {"candidates": cell["candidates"]} if "candidates" in cell else {}
    return dataclasses.asdict(peak(CALLS[cell["what"]], **sizes, **options))


def captioning(size: str, batch: int, length: int, precision: str, candidates: int = 1) -> Callable[[], object]:
    """What is run for its memory.

    Args:
        size: a name in ``SIZES``.
        batch: pictures at a time.
        length: positions of a caption.
        precision: "fp32" or "bf16".
        candidates: of each picture.
    """
    model = full_size(STEPS, size=SIZES[size], length=length)
    return partial(runner(model, precision), *pictures(batch, SIZES[size]), num_candidates=candidates)


def write(given: Namespace, lines: Sequence[Mapping[str, Any]], left: Sequence[Cell]) -> None:
    """The page and its plot."""
    page = [
        "# Memory",
        "",
        "`python -m benchmarks.memory`: peak resident memory in GiB, each in a process of its own; the model at full",
        f"size, random weights. Captioning: {STEPS} evaluations guided at scale 2 (NFE {2 * STEPS}), pixels to text.",
        "Training: two steps of the released recipe from cached image tokens, with AdamW's moments.",
        "",
    ]
    if lines:
        curves: dict[str, list[tuple[float, float]]] = {}
        for line in lines:
            cell = line["cell"]
            if "candidates" in cell:
                continue
            curves.setdefault(f"{cell['what']}, {cell['length']} positions", []).append((cell["batch"], line["peak"]))
        rows = [
            [str(line["cell"][name]) for name in ("what", "length", "batch")]
            + [str(line["cell"].get("candidates", 1))]
            + [f"{value:.2f}" for value in (line["built"], line["peak"], line["peak"] - line["built"])]
            for line in lines
        ]
        page += [
            conditions(given.precision, "seed 0", f"{given.size} sizes", lines=lines),
            "",
            *table(["", "positions", "batch", "candidates", "model and libraries", "peak", "added by the work"], rows),
            "",
            f"![peak memory against batch]({given.page.stem}.png)",
        ]
        plot(given.page.with_suffix(".png"), {"batch": curves}, f"peak memory, GiB, {given.precision}")
    publish(given.page, [*page, *left_out([", ".join(map(str, cell.values())) for cell in left])])


if __name__ == "__main__":
    main()
