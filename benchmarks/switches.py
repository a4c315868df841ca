"""``python -m benchmarks.switches STUDY``: the page of a study whose rows are a recipe and single changes of it.

Reads what ``ladic sweep configs/study/STUDY.yaml`` left behind, STUDY being ``ablation_study`` or ``tables_study``, and
writes ``benchmarks/results/STUDY.md``: the scores of every finished row, and how far its CIDEr-D is from that of the
first row (of its table), with a paired bootstrap over pictures. What the numbers say is written by hand, in
``benchmarks/words/STUDY.md``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from benchmarks.pages import publish, table
from benchmarks.studies import cider_of, finished, head, scores
from ladic.metrics.functional.bootstrap import mean_of, paired_bootstrap
from ladic.metrics.functional.ngrams import FloatArray
from ladic.sweep import Sweep
from ladic.sweep.definition import Row
from ladic.sweep.results import Result

SCORES = ("CIDEr-D", "BLEU-4", "METEOR", "distinct-2", "Length ratio", "Repetition-2")
TITLES = {
    "ablation_study": "Single changes of the recipe plus, on Flickr8k",
    "tables_study": "The paper's tables 4, 5 and 6 in small, on Flickr8k",
}
TABLES = ("table5-", "table6-", "table4-")
"""How rows of tables are named; they are compared with the first of their table."""
LONGEST = 90
"""Characters of a flag's value that the page shows."""


def main() -> None:
    """Writes the page of the study that the first word names."""
    if len(sys.argv) < 2 or sys.argv[1] not in TITLES:
        sys.exit(f"python -m benchmarks.switches: name a study first: {' or '.join(TITLES)}")
    study = sys.argv.pop(1)
    options, sweep, results = finished(__doc__ or "", study, f"switches {study}")
    publish(options.page, page(study, sweep, results, options))


def page(study: str, sweep: Sweep, results: Sequence[Result], options: argparse.Namespace) -> list[str]:
    """The lines of the page."""
    return [
        *head(TITLES[study], f"switches {study}", options, sweep, results),
        "",
        "## What each row changes",
        "",
        "CIDEr-D less that of another row, and where 95 % of 1,000 bootstrap draws of the pictures lie: what other",
        "pictures would say of these weights, not what other seeds of training would.",
        "",
        *table(["row", "less", "difference", "95 %", "what is set otherwise"], changes(sweep.rows, results)),
        "",
        "## Scores",
        "",
        *scores(sweep, results, SCORES),
    ]


def base_of(row: Row, rows: Sequence[Row]) -> Row:
    """The row that another is compared with: the first of its table, or of all."""
    table = next((name for name in TABLES if row.name.startswith(name)), "")
    return next(each for each in rows if each.name.startswith(table))


def changes(rows: Sequence[Row], results: Sequence[Result]) -> list[list[str]]:
    """Cells for each row that has a seed in common with its base: name, the base's, difference, interval, flags."""
    per_image = {(each.run.row.name, each.run.seed): cider_of(each) for each in results}
    lines = []
    for row in rows:
        base = base_of(row, rows)
        seeds = [seed for name, seed in per_image if name == row.name and (base.name, seed) in per_image]
        if not seeds or row.name == base.name:
            continue
        own, other = (_mean([per_image[name, seed] for seed in seeds]) for name in (row.name, base.name))
        found = paired_bootstrap(mean_of(other), mean_of(own), len(own))
        interval = f"{found.low:+.4f} to {found.high:+.4f}"
        lines.append([row.name, base.name, f"{own.mean() - other.mean():+.4f}", interval, what(row, base)])
    return lines


def what(row: Row, base: Row) -> str:
    """The flags that a row has and the base has not, those that it lacks, and whose weights it takes."""
    said = [f"`{_short(flag)}`" for flag in row.flags if flag not in base.flags]
    own = {flag.partition("=")[0] for flag in row.flags}
    said += [f"not `{_short(flag)}`" for flag in base.flags if flag.partition("=")[0] not in own]
    if row.weights is not None and row.weights.name != base.name:
        said.append(f"weights of `{row.weights.name}`")
    return ", ".join(said)


def _short(flag: str) -> str:
    flag = " ".join(flag.removeprefix("--").removeprefix("model.").split())
    return flag if len(flag) <= LONGEST else f"{flag[: LONGEST - 1]}…"


def _mean(per_image: Sequence[FloatArray]) -> FloatArray:
    return np.mean(np.stack(per_image), axis=0)


if __name__ == "__main__":
    main()
