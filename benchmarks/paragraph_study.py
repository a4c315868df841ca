"""``python -m benchmarks.paragraph_study``: paragraphs by latent diffusion and word by word, from a sweep's runs.

Reads what ``ladic sweep configs/study/paragraph_study.yaml`` left in ``runs/paragraphs`` and writes
``benchmarks/results/paragraph_study.md`` and its figure: repetition, truth and coverage by the length of the
paragraphs. What the numbers say is written by hand, in ``benchmarks/words/paragraph_study.md``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.figures import plot
from benchmarks.pages import publish, table
from benchmarks.studies import examples, finished, firsts, head, named, scores, texts
from ladic.cli.lightning_cli import parse, spec_of
from ladic.datamodules import CaptionDataModule
from ladic.datamodules.shapes import ShapesDataModule, Truth
from ladic.spec import build
from ladic.sweep import Sweep
from ladic.sweep.results import Result

SCORES = ("CIDEr-D", "BLEU-4", "METEOR", "distinct-2", "Length ratio", "Repetition-4")
EDGES = (36, 42, 48, 54)
"""The first length of each range but the first, in words of the reference."""
MEASURES = ("sentences repeated", "claims true", "objects named", "wholly true")


def main() -> None:
    """Writes the page."""
    options, sweep, results = finished(__doc__ or "", "paragraph_study")
    publish(options.page, page(sweep, results, options))


def page(sweep: Sweep, results: Sequence[Result], options: argparse.Namespace) -> list[str]:
    """The lines of the page; its figure is written on the way."""
    title = "Paragraphs: latent diffusion against autoregression"
    return [
        *head(title, "paragraph_study", options, sweep, results),
        "",
        "## Scores",
        "",
        "Test split; against one reference each, of the many things that can be said of a scene.",
        "",
        *scores(sweep, results, SCORES),
        "",
        "## By length",
        "",
        *by_length(results, options.page),
        "",
        "## Paragraphs",
        "",
        *examples(results),
    ]


def by_length(results: Sequence[Result], file: Path) -> list[str]:
    """What of the first seed of every row is repeated, true and named, as a table and a figure."""
    labels: list[str] = []
    rows: list[list[str]] = []
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {name: {} for name in MEASURES[:3]}
    for row, result in firsts(results).items():
        captions, references = texts(result)
        measured = np.array([measures(*each) for each in zip(captions, truths(result), strict=True)])
        length = np.array([len(reference.split()) for reference, *_ in references])
        place = np.searchsorted(np.array(EDGES), length, side="right")
        bins = [(int(length[place == i].min()), measured[place == i]) for i in range(len(EDGES) + 1) if i in place]
        labels = [f"{low}+ ({len(inside)})" for low, inside in bins]
        for column, name in enumerate(MEASURES):
            shares = [(low, ratio(inside[:, column])) for low, inside in bins]
            rows.append([row, name, f"{ratio(measured[:, column]):.3f}", *(f"{share:.3f}" for _, share in shares)])
            if name in panels:
                panels[name][row] = list(shares)
    figure = file.with_name(f"{file.stem}.png")
    plot(figure, {f"words of the reference, from: {name}": lines for name, lines in panels.items()}, "share")
    return [
        "By the words of a scene's reference; in brackets, scenes. A sentence is repeated that was said before in the",
        "same paragraph. Claims are true of the scene or not (`ladic.datamodules.shapes.check`); what can't be parsed",
        "is no claim, but keeps a paragraph from being wholly true.",
        "",
        *table(["row", "share of", "all", *labels], rows),
        "",
        f"![shares by length]({figure.name})",
    ]


def truths(result: Result) -> list[Truth]:
    """Verdicts on the captions of a run, in the order of ``texts``."""
    words = [word for config in result.run.row.configs for word in ("-c", str(config))]
    data = build(spec_of(parse([*words, "--data.paragraphs=true"]).data), CaptionDataModule)
    assert isinstance(data, ShapesDataModule)
    return [data.truth("test", image_id, caption) for image_id, caption in named(result).items()]


def measures(paragraph: str, truth: Truth) -> list[tuple[int, int]]:
    """(part, whole) of each of MEASURES."""
    sentences = [sentence.strip() for sentence in paragraph.split(".") if sentence.strip()]
    return [
        (len(sentences) - len(set(sentences)), len(sentences)),
        (sum(claim.holds for claim in truth.claims), len(truth.claims)),
        (truth.objects_named, truth.objects_total),
        (int(truth.wholly_true), 1),
    ]


def ratio(counts: np.ndarray) -> float:
    """The parts (I, 2) of several paragraphs over their wholes."""
    part, whole = counts.sum(0)
    return float(part / max(1, whole))


if __name__ == "__main__":
    main()
