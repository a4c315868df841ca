"""The results of a sweep: a line a run as CSV, a line a row with mean and spread as Markdown, and curves as PNG."""

from __future__ import annotations

import csv
import datetime
import io
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ladic import __version__
from ladic.errors import UsageError
from ladic.json_files import parse_json, read_text
from ladic.plots import read_curves, sweep_figure
from ladic.sweep.definition import Run, Sweep
from ladic.sweep.record import read_record

SCORES = "scores_test.json"
COSTS = ("seconds_per_image", "nfe_per_image", "trained_parameters", "minutes", "steps")
"""Columns after the scores: what captioning and training took."""

Curves = dict[str, list[tuple[int, float]]]


@dataclass(frozen=True)
class Result:
    """What a finished run came to.

    Attributes:
        run: which.
        values: scores, then ``COSTS`` as far as they are known.
        facts: the whole of ``scores_test.json``.
        machine: that it ran on.
        curves: what training logged.
    """

    run: Run
    values: dict[str, float]
    facts: dict[str, Any]
    machine: str
    curves: Curves


def gather(runs: Sequence[Run]) -> tuple[list[Result], list[str]]:
    """The finished runs, and a line for each of the others that says why it is left out."""
    results, left_out = [], []
    for run in runs:
        try:
            found = _result(run)
        except UsageError as error:
            left_out.append(f"{run}: left out: {error}")
            continue
        if found is None:
            left_out.append(f"{run}: left out: not finished")
        else:
            results.append(found)
    return results, left_out


def _result(run: Run) -> Result | None:
    record = read_record(run)
    if record is None or not record.finished(run):
        return None
    file = run.folder / SCORES
    try:
        facts = parse_json(read_text(file))
        curves = read_curves(run.folder) if list(run.folder.rglob("metrics.csv")) else {}
        return Result(run, values_of(facts, curves), facts, record.machine, curves)
    except OSError as error:
        raise UsageError(f"no '{file}'; a row that is to be compared has the command test") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"'{file}': not scores that `ladic test` wrote ({error!r})") from error


def values_of(facts: dict[str, Any], curves: Curves) -> dict[str, float]:
    """The numbers of a run: scores that could be had, and ``COSTS``.

    Evaluations of the network are those behind a picture's caption: of all its candidates and of choosing one.
    """
    values = {name: float(value) for name, value in facts["scores"].items() if value is not None}
    costs = {
        "seconds_per_image": facts["seconds_per_image"],
        "nfe_per_image": facts["nfe"] * (facts.get("num_candidates") or 1) + facts["selection_nfe"],
        "trained_parameters": (facts.get("parameters") or {}).get("trained"),
        "minutes": curves["train/minutes"][-1][1] if "train/minutes" in curves else None,
        "steps": facts["step"],
    }
    return values | {name: float(value) for name, value in costs.items() if value is not None}


def columns(results: Sequence[Result]) -> list[str]:
    """Scores in the order of the files, then ``COSTS``."""
    names = list(dict.fromkeys(name for result in results for name in result.values))
    return [*(name for name in names if name not in COSTS), *(name for name in COSTS if name in names)]


def write_results(sweep: Sweep, runs: Sequence[Run], results: Sequence[Result]) -> list[Path]:
    """Writes ``results.csv``, ``results.md`` and, where the metric was validated, ``results.png``; the files.

    Args:
        sweep: whose folder they go to.
        runs: all that were asked for, finished or not.
        results: of those that are finished, one or more.
    """
    sweep.output.mkdir(parents=True, exist_ok=True)
    table, page, figure = (sweep.output / f"results.{ending}" for ending in ("csv", "md", "png"))
    table.write_text(as_csv(results), encoding="utf-8", newline="")
    curves: dict[str, list[Curves]] = {}
    for result in results:
        if f"val/{sweep.metric}" in result.curves:
            curves.setdefault(result.run.row.name, []).append(result.curves)
    written = [table, page]
    if curves:
        figure.write_bytes(sweep_figure(curves, sweep.metric))
        written.append(figure)
    page.write_text(as_markdown(sweep, len(runs), results, figure.name if curves else None), encoding="utf-8")
    return written


def as_csv(results: Sequence[Result]) -> str:
    """A line for each run."""
    names = columns(results)
    lines = io.StringIO()
    writer = csv.writer(lines)
    writer.writerow(["row", "seed", *names])
    for result in results:
        cells = [repr(result.values[name]) if name in result.values else "" for name in names]
        writer.writerow([result.run.row.name, result.run.seed, *cells])
    return lines.getvalue()


def as_markdown(sweep: Sweep, asked: int, results: Sequence[Result], figure: str | None) -> str:
    """A page with a line for each row: mean and sample standard deviation over its runs, and their number."""
    names = columns(results)
    lines = [
        f"# {sweep.file.stem}",
        "",
        f"Made by `ladic sweep {sweep.file} --gather`, ladic {__version__}, {datetime.date.today().isoformat()}.",
        "",
        *_about(sweep, asked, results),
        "",
        "Mean over seeds ± sample standard deviation, of n runs.",
        "",
        f"| row | n | {' | '.join(names)} |",
        "|---" * (len(names) + 2) + "|",
    ]
    for row in sweep.rows:
        own = [result.values for result in results if result.run.row.name == row.name]
        if own:
            cells = [cell(name, [values[name] for values in own if name in values]) for name in names]
            lines.append(f"| {row.name} | {len(own)} | {' | '.join(cells)} |")
    if figure:
        lines += ["", f"![{sweep.metric} in validation, against minutes of training and steps]({figure})"]
    return "\n".join(lines) + "\n"


def _about(sweep: Sweep, asked: int, results: Sequence[Result]) -> list[str]:
    """What every published number has to name."""
    minutes = sweep.rows[0].minutes
    seeds = sorted({result.run.seed for result in results})
    versions = dict.fromkeys(
        ", ".join(f"{name} {number}" for name, number in result.facts.get("versions", {}).items()) for result in results
    )
    precisions = dict.fromkeys(str(result.facts.get("precision")) for result in results)
    return [
        f"- {len(results)} of {asked} runs are finished; seeds {', '.join(map(str, seeds))}",
        f"- {minutes:g} minutes of training each, without validations" if minutes else "- each as long as it says",
        f"- {', '.join(dict.fromkeys(result.machine for result in results))}; precision {', '.join(precisions)}",
        f"- {'; '.join(versions)}",
    ]


def cell(name: str, values: Sequence[float]) -> str:
    """Mean and spread as the page has them; nothing where there is no value.

    Example:
        >>> cell("CIDEr-D", [0.25, 0.35]), cell("steps", [1200.0]), cell("trained_parameters", [2_500_000.0] * 2)
        ('0.3000 ± 0.0707', '1200', '2.50 M')
    """
    if not values:
        return ""
    mean, spread = statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
    if name == "trained_parameters":
        shown = [f"{number / 1e6:.2f} M" for number in (mean, spread)]
    else:
        digits = {"minutes": 1, "steps": 0, "nfe_per_image": 1}.get(name, 4)
        shown = [f"{number:.{digits}f}" for number in (mean, spread)]
    return f"{shown[0]} ± {shown[1]}" if spread else shown[0]
