"""``python -m benchmarks.flickr8k_study``: the page of the study on Flickr8k, from the runs of its sweep.

Reads what ``ladic sweep configs/study/flickr8k_study.yaml`` left in ``runs/study``, as many of its rows and seeds as
are finished, and writes ``benchmarks/results/flickr8k_study.md`` and its figures. What the numbers say is written by
hand, in ``benchmarks/words/flickr8k_study.md``, and goes to the top of the page.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import plot
from benchmarks.pages import RESULTS, publish, table
from ladic.metrics.functional.bootstrap import mean_of, paired_bootstrap
from ladic.metrics.functional.by_length import bleu_by_length
from ladic.metrics.functional.cider import DocumentFrequencies, cider_d
from ladic.metrics.functional.ngrams import FloatArray
from ladic.metrics.functional.ptb_tokenizer import ptb_tokenize_all
from ladic.plots import sweep_figure
from ladic.sweep import Sweep, read_sweep
from ladic.sweep.results import Result, about, cell, gather

SWEEP = Path("configs/study/flickr8k_study.yaml")
WORDS = Path(__file__).parent / "words" / "flickr8k_study.md"
SCORES = ("CIDEr-D", "BLEU-4", "ROUGE-L", "METEOR", "distinct-2", "Length ratio", "Repetition-2")
COSTS = ("seconds_per_image", "nfe_per_image", "trained_parameters", "steps")
SHOWN = {"seconds_per_image": "s a picture", "nfe_per_image": "NFE", "trained_parameters": "trained parameters"}
OPPONENT = "autoregressive"
PICTURES = 10


def main() -> None:
    """Writes the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sweep", type=Path, default=SWEEP)
    parser.add_argument("--page", type=Path, default=RESULTS / "flickr8k_study.md")
    parser.add_argument("--words", type=Path, default=WORDS, help="what the numbers say, Markdown")
    options = parser.parse_args()
    if not options.words.is_file():
        parser.error(f"--words {options.words}: no such file; give what the numbers say as Markdown")
    sweep = read_sweep(options.sweep)
    results, complaints = gather(sweep.runs())
    if not results:
        parser.error(f"no finished runs in {sweep.output}; first: ladic sweep {options.sweep}")
    print("\n".join(complaints))
    publish(options.page, page(sweep, results, options))


def page(sweep: Sweep, results: Sequence[Result], options: argparse.Namespace) -> list[str]:
    """The lines of the page; its figures are written on the way."""
    stem = options.page.stem
    curves: dict[str, list[dict[str, list[tuple[int, float]]]]] = {}
    for result in results:
        if f"val/{sweep.metric}" in result.curves:
            curves.setdefault(result.run.row.name, []).append(result.curves)
    options.page.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        "# Flickr8k: latent diffusion against autoregression at equal minutes",
        "",
        f"Made by `python -m benchmarks.flickr8k_study` after `ladic sweep {options.sweep}`; one row alone:",
        f"`ladic sweep {options.sweep} --only ROW`. What a row is stands in that file.",
        "",
        *about(sweep, len(sweep.runs()), results),
        "",
        *options.words.read_text(encoding="utf-8").splitlines(),
        "",
        "## Scores",
        "",
        "Validation split; mean over seeds ± sample standard deviation.",
        "",
        *scores(sweep, results),
        "",
        *against(results),
    ]
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


def scores(sweep: Sweep, results: Sequence[Result]) -> list[str]:
    """A line for each row that has runs."""
    names = [name for name in (*SCORES, *COSTS) if any(name in result.values for result in results)]
    rows = []
    for row in sweep.rows:
        own = [result.values for result in results if result.run.row.name == row.name]
        if own:
            cells = [cell(name, [values[name] for values in own if name in values], len(own)) for name in names]
            rows.append([row.name, str(len(own)), *cells])
    return table(["row", "n", *(SHOWN.get(name, name) for name in names)], rows)


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


def cider_of(result: Result) -> FloatArray:
    """CIDEr-D of each picture, in the order of their ids."""
    captions, references = texts(result)
    tokenised = [ptb_tokenize_all(each) for each in references]
    return cider_d(ptb_tokenize_all(captions), tokenised, DocumentFrequencies.from_references(tokenised)).per_image


def texts(result: Result) -> tuple[list[str], list[list[str]]]:
    """Captions and references as written."""
    folder = result.run.folder
    captions = {entry["image_id"]: entry["caption"] for entry in json.loads((folder / "results_test.json").read_text())}
    references = json.loads((folder / "references_test.json").read_text())
    return list(captions.values()), [references[str(name)] for name in captions]


def by_length(results: Sequence[Result], file: Path) -> list[str]:
    """BLEU-4 of the first seed of every row by the length of the references, as a table and a figure."""
    labels: list[str] = []
    rows, lines = [], {}
    for name, result in firsts(results).items():
        captions, references = texts(result)
        bins = bleu_by_length(ptb_tokenize_all(captions), [ptb_tokenize_all(each) for each in references])
        labels = [f"{each.label} ({each.images})" for each in bins]
        rows.append([name, *(f"{each.bleu[3]:.4f}" for each in bins)])
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


def firsts(results: Sequence[Result]) -> dict[str, Result]:
    """The first run of each row."""
    found: dict[str, Result] = {}
    for result in results:
        found.setdefault(result.run.row.name, result)
    return found


def examples(results: Sequence[Result]) -> list[str]:
    """What the rows say of the first pictures."""
    rows = firsts(results)
    columns = {name: json.loads((each.run.folder / "results_test.json").read_text()) for name, each in rows.items()}
    lines = []
    for place, entry in enumerate(next(iter(columns.values()))[:PICTURES]):
        lines += [f"- {entry['image_id']}"]
        lines += [f"    - {name}: {entries[place]['caption']}" for name, entries in columns.items()]
    return lines


if __name__ == "__main__":
    main()
