"""``python -m benchmarks.flickr8k_study``: the page of the study on Flickr8k, from the runs of its sweep.

Reads what ``ladic sweep configs/study/flickr8k_study.yaml`` left in ``runs/study``, as many of its rows and seeds as
are finished, and writes ``benchmarks/results/flickr8k_study.md`` and its figures. What the numbers say is written by
hand, in ``benchmarks/words/flickr8k_study.md``, and goes to the top of the page.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import plot
from benchmarks.pages import publish, table
from benchmarks.studies import cider_of, examples, finished, firsts, head, scores, texts
from ladic.metrics.functional.bootstrap import mean_of, paired_bootstrap
from ladic.metrics.functional.by_length import bleu_by_length
from ladic.metrics.functional.ptb_tokenizer import ptb_tokenize_all
from ladic.plots import sweep_figure
from ladic.sweep import Sweep
from ladic.sweep.results import Result

SCORES = ("CIDEr-D", "BLEU-4", "ROUGE-L", "METEOR", "distinct-2", "Length ratio", "Repetition-2")
OPPONENT = "autoregressive"


def main() -> None:
    """Writes the page."""
    options, sweep, results = finished(__doc__ or "", "flickr8k_study")
    publish(options.page, page(sweep, results, options))


def page(sweep: Sweep, results: Sequence[Result], options: argparse.Namespace) -> list[str]:
    """The lines of the page; its figures are written on the way."""
    stem = options.page.stem
    curves: dict[str, list[dict[str, list[tuple[int, float]]]]] = {}
    for result in results:
        if f"val/{sweep.metric}" in result.curves:
            curves.setdefault(result.run.row.name, []).append(result.curves)
    lines = [
        *head(
            "Flickr8k: latent diffusion against autoregression at equal minutes",
            "flickr8k_study", options, sweep, results,
        ),
        "",
        "## Scores",
        "",
        "Validation split; mean over seeds ± sample standard deviation.",
        "",
        *scores(sweep, results, SCORES),
        "",
        *against(results),
    ]  # fmt: skip
    if curves:
        file = options.page.with_name(f"{stem}_training.png")
        file.write_bytes(sweep_figure(curves, sweep.metric))
        lines += [
            "",
            "## Quality against minutes and steps",
            "",
            f"On the first validation batches alone, each row as it captions by itself:\n\n![curves]({file.name})",
        ]
    lines += ["", "## BLEU by length (the paper's Figure 2b)", "", *by_length(results, options.page)]
    return [*lines, "", "## Captions", "", *examples(results)]


def against(results: Sequence[Result]) -> list[str]:
    """CIDEr-D of every row less the opponent's of the same seed, with a bootstrap over pictures."""
    shown = []
    per_image = {(result.run.row.name, result.run.seed): cider_of(result) for result in results}
    for (name, seed), own in per_image.items():
        other = per_image.get((OPPONENT, seed))
        if name != OPPONENT and other is not None:
            found = paired_bootstrap(mean_of(other), mean_of(own), len(own))
            shown.append(
                [name, str(seed), f"{own.mean() - other.mean():+.4f}", f"{found.low:+.4f} to {found.high:+.4f}"]
            )
    if not shown:
        return []
    return [
        f"CIDEr-D less that of `{OPPONENT}`, and where 95 % of 1,000 bootstrap draws of the pictures lie:",
        "",
        *table(["row", "seed", "difference", "95 %"], shown),
    ]


def by_length(results: Sequence[Result], file: Path) -> list[str]:
    """BLEU-4 of each row's first seed by the length of the references: a table, and a figure of those that train."""
    labels: list[str] = []
    rows, lines = [], {}
    for name, result in firsts(results).items():
        captions, references = texts(result)
        bins = bleu_by_length(ptb_tokenize_all(captions), [ptb_tokenize_all(each) for each in references])
        labels = [f"{each.label} ({each.images})" for each in bins]
        rows.append([name, *(f"{each.bleu[3]:.4f}" for each in bins)])
        if result.run.row.weights is None and result.run.row.teacher is None:  # more lines than that nobody can read
            lines[name] = [(each.low, each.bleu[3]) for each in bins]
    figure = file.with_name(f"{file.stem}_lengths.png")
    plot(figure, {"words of the references, from": lines}, "BLEU-4")
    return [
        "By the mean number of words of a picture's references; in brackets, pictures.",
        "",
        *table(["row", *labels], rows),
        "",
        f"![BLEU-4 by length]({figure.name})",
    ]


if __name__ == "__main__":
    main()
