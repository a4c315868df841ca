"""What the pages of studies have in common: the finished runs of a sweep, their scores and their texts."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from benchmarks.pages import RESULTS, table
from ladic.metrics.functional.cider import DocumentFrequencies, cider_d
from ladic.metrics.functional.ngrams import FloatArray
from ladic.metrics.functional.ptb_tokenizer import ptb_tokenize_all
from ladic.sweep import Sweep, read_sweep
from ladic.sweep.results import Result, about, cell, gather

COSTS = ("seconds_per_image", "nfe_per_image", "trained_parameters", "steps")
SHOWN = {"seconds_per_image": "s a picture", "nfe_per_image": "NFE", "trained_parameters": "trained parameters"}
PICTURES = 5


def finished(doc: str, name: str, command: str | None = None) -> tuple[argparse.Namespace, Sweep, list[Result]]:
    """Options of the command ``python -m benchmarks.COMMAND``, the sweep of that name, and its finished runs.

    Args:
        doc: of the benchmark.
        name: of its sweep and of its page.
        command: of the benchmark, where that isn't the name.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{command or name}", description=doc.splitlines()[0])
    parser.add_argument("--sweep", type=Path, default=Path(f"configs/study/{name}.yaml"))
    parser.add_argument("--output", help="as `ladic sweep` was given it")
    parser.add_argument("--minutes", type=float, help="likewise")
    parser.add_argument("--flags", help="likewise")
    parser.add_argument("--title", help="of the page, where it isn't the study's only one")
    parser.add_argument("--page", type=Path, default=RESULTS / f"{name}.md")
    words = Path(__file__).parent / "words" / f"{name}.md"
    parser.add_argument("--words", type=Path, default=words, help="what the numbers say, Markdown")
    options = parser.parse_args()
    if not options.words.is_file():
        parser.error(f"--words {options.words}: no such file; give what the numbers say as Markdown")
    sweep = read_sweep(options.sweep, options.output, options.minutes, options.flags)
    results, complaints = gather(sweep.runs())
    if not results:
        parser.error(f"no finished runs in {sweep.output}; first: ladic sweep {options.sweep}")
    print("\n".join(complaints))
    options.page.parent.mkdir(parents=True, exist_ok=True)
    return options, sweep, results


def head(title: str, command: str, options: argparse.Namespace, sweep: Sweep, results: Sequence[Result]) -> list[str]:
    """The first lines of a page, up to what the numbers say."""
    flags = {flag: getattr(options, flag) for flag in ("output", "minutes", "flags")}
    given = "".join(f" --{flag}={shlex.quote(f'{value}')}" for flag, value in flags.items() if value is not None)
    return [
        f"# {options.title or title}",
        "",
        f"Made by `python -m benchmarks.{command}{given}` after `ladic sweep {options.sweep}{given}`;",
        "one row alone: the same sweep with `--only ROW`. What a row is stands in that file.",
        "",
        *about(sweep, len(sweep.runs()), results),
        "",
        *options.words.read_text(encoding="utf-8").splitlines(),
    ]


def scores(sweep: Sweep, results: Sequence[Result], shown: Sequence[str]) -> list[str]:
    """A line for each row that has runs."""
    names = [name for name in (*shown, *COSTS) if any(name in result.values for result in results)]
    rows = []
    for row in sweep.rows:
        own = [result.values for result in results if result.run.row.name == row.name]
        if own:
            cells = [cell(name, [values[name] for values in own if name in values], len(own)) for name in names]
            rows.append([row.name, str(len(own)), *cells])
    return table(["row", "n", *(SHOWN.get(name, name) for name in names)], rows)


def texts(result: Result) -> tuple[list[str], list[list[str]]]:
    """Captions and references as written."""
    captions = named(result)
    references = json.loads((result.run.folder / "references_test.json").read_text())
    return list(captions.values()), [references[str(name)] for name in captions]


def cider_of(result: Result) -> FloatArray:
    """CIDEr-D of each picture, in the order of their ids."""
    captions, references = texts(result)
    tokenised = [ptb_tokenize_all(each) for each in references]
    return cider_d(ptb_tokenize_all(captions), tokenised, DocumentFrequencies.from_references(tokenised)).per_image


def named(result: Result) -> dict[int | str, str]:
    """Captions by the id of their picture."""
    entries = json.loads((result.run.folder / "results_test.json").read_text())
    return {entry["image_id"]: entry["caption"] for entry in entries}


def firsts(results: Sequence[Result]) -> dict[str, Result]:
    """The first run of each row."""
    found: dict[str, Result] = {}
    for result in results:
        found.setdefault(result.run.row.name, result)
    return found


def examples(results: Sequence[Result]) -> list[str]:
    """What the rows say of the first pictures."""
    rows = firsts(results)
    columns = {name: named(each) for name, each in rows.items()}
    lines = []
    for image_id in list(next(iter(columns.values())))[:PICTURES]:
        lines += [f"- {image_id}", *(f"    - {name}: {captions[image_id]}" for name, captions in columns.items())]
    return lines
