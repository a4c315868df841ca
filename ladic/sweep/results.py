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
from ladic.json_files import parse_json, read_text, write_whole
from ladic.plots import read_curves, sweep_figure
from ladic.plugins import unknown
from ladic.sweep.definition import Run, Sweep
from ladic.sweep.record import Done, read_record

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
        done: its commands: where, when and by which code each came to its end.
        curves: what training logged; none where that can't be read.
    """

    run: Run
    values: dict[str, float]
    facts: dict[str, Any]
    done: list[Done]
    curves: Curves


def gather(runs: Sequence[Run]) -> tuple[list[Result], list[str]]:
    """The finished runs, and complaints: a line for each run that is left out, or of which something can't be read."""
    results, complaints = [], []
    for run in runs:
        curves: Curves = {}
        try:
            if list(run.folder.rglob("metrics.csv")):
                curves = read_curves(run.folder)
        except UsageError as error:
            complaints.append(f"{run}: no curves: {error}")
        try:
            found = _result(run, curves)
        except UsageError as error:
            complaints.append(f"{run}: left out: {error}")
            continue
        if found is None:
            complaints.append(f"{run}: left out: not finished")
        else:
            results.append(found)
    return results, complaints


def _result(run: Run, curves: Curves) -> Result | None:
    record = read_record(run)
    if record is None or not record.finished(run):
        return None
    file = run.folder / SCORES
    try:
        facts = parse_json(read_text(file))
        return Result(run, values_of(facts), facts, record.done, curves)
    except OSError as error:
        raise UsageError(f"no '{file}'; a row that is to be compared has the command test") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"'{file}': not scores that `ladic test` wrote ({error!r})") from error


def values_of(facts: dict[str, Any]) -> dict[str, float]:
    """The numbers of a run: scores that could be had, and ``COSTS``.

    Evaluations of the network are those behind a picture's caption: of all its candidates (or captions of its beam) and
    of choosing one. Minutes are those behind the weights, as their checkpoint has them.
    """
    values = {name: float(value) for name, value in facts["scores"].items() if value is not None}
    costs = {
        "seconds_per_image": facts["seconds_per_image"],
        "nfe_per_image": facts["nfe"] * (facts.get("rows") or 1) + facts["selection_nfe"],
        "trained_parameters": (facts.get("parameters") or {}).get("trained"),
        "minutes": (facts.get("training") or {}).get("minutes"),
        "steps": facts["step"],
    }
    return values | {name: float(value) for name, value in costs.items() if value is not None}


def columns(results: Sequence[Result]) -> list[str]:
    """Scores in the order of the files, then ``COSTS``."""
    names = list(dict.fromkeys(name for result in results for name in result.values))
    return [*(name for name in names if name not in COSTS), *(name for name in COSTS if name in names)]


def no_figure(sweep: Sweep, results: Sequence[Result]) -> str | None:
    """A line on the metric where no run has it in validation and there are others; None where there is a figure."""
    validated = {name.removeprefix("val/") for each in results for name in each.curves if name.startswith("val/")}
    if sweep.metric in validated or not validated:
        return None
    return f"sweep '{sweep.file}': metric='{sweep.metric}': no figure: {unknown('score', sweep.metric, validated)}"


def write_results(sweep: Sweep, runs: Sequence[Run], results: Sequence[Result], words: str) -> list[Path]:
    """Writes ``results.csv``, ``results.md`` and, where the metric was validated, ``results.png``, each whole or not at
    all; the files. A figure of an earlier table goes.

    Args:
        sweep: whose folder they go to.
        runs: that belong into the table, finished or not.
        results: of those that are finished, one or more.
        words: the command at work.
    """
    table, page, figure = (sweep.output / f"results.{ending}" for ending in ("csv", "md", "png"))
    write_whole(table, as_csv(results).encode())
    curves: dict[str, list[Curves]] = {}
    for result in results:
        if f"val/{sweep.metric}" in result.curves:
            curves.setdefault(result.run.row.name, []).append(result.curves)
    written = [table, page]
    if curves:
        write_whole(figure, sweep_figure(curves, sweep.metric))
        written.append(figure)
    else:
        figure.unlink(missing_ok=True)
    write_whole(page, as_markdown(sweep, len(runs), results, words, figure.name if curves else None).encode())
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


def as_markdown(sweep: Sweep, asked: int, results: Sequence[Result], words: str, figure: str | None) -> str:
    """A page with a line for each row: mean and sample standard deviation over its runs, and their number.

    Args:
        sweep: whose rows these are.
        asked: how many runs belong into the table.
        results: of those that are finished.
        words: the command at work.
        figure: name of the file, None without one.
    """
    names = columns(results)
    lines = [
        f"# {sweep.file.stem}",
        "",
        f"Gathered by `{words}`, ladic {__version__}, {datetime.date.today().isoformat()}.",
        "",
        *about(sweep, asked, results),
        "",
        "Mean over seeds ± sample standard deviation, of n runs; a cell says where fewer have a value.",
        "",
        f"| row | n | {' | '.join(names)} |",
        "|---" * (len(names) + 2) + "|",
    ]
    for row in sweep.rows:
        own = [result.values for result in results if result.run.row.name == row.name]
        if own:
            cells = [cell(name, [values[name] for values in own if name in values], len(own)) for name in names]
            lines.append(f"| {row.name} | {len(own)} | {' | '.join(cells)} |")
    if figure:
        lines += ["", f"![{sweep.metric} in validation, against minutes of training and steps]({figure})"]
    return "\n".join(lines) + "\n"


def about(sweep: Sweep, asked: int, results: Sequence[Result]) -> list[str]:
    """What every published number has to name."""
    minutes = dict.fromkeys(result.run.row.minutes for result in results)
    seeds = sorted({result.run.seed for result in results})
    versions = dict.fromkeys(
        ", ".join(f"{name} {number}" for name, number in result.facts.get("versions", {}).items()) for result in results
    )
    settings = dict.fromkeys(_settings(result.facts) for result in results)
    done = [each for result in results for each in result.done]
    names = dict.fromkeys(each.command for each in done)
    return [
        f"- {len(results)} of {asked} runs are finished; seeds {', '.join(map(str, seeds))}",
        f"- {' or '.join(map(_budget, minutes))}",
        *(_where(name, [each for each in done if each.command == name]) for name in names),
        f"- {'; or '.join(settings)}",
        f"- {'; '.join(versions)}",
    ]


def _budget(minutes: float | None) -> str:
    return f"{minutes:g} minutes of training each, without validations" if minutes else "each as long as it says"


def _settings(facts: dict[str, Any]) -> str:
    trained = facts.get("training") or {}
    return (
        f"trained with batch {trained.get('global_batch')} in {trained.get('precision')}, "
        f"captioned with batch {facts.get('eval_batch_size')} in {facts.get('precision')}"
    )


def _where(command: str, done: Sequence[Done]) -> str:
    """Machines, commits and days of a command."""
    machines = "; ".join(dict.fromkeys(each.machine for each in done))
    commits = ", ".join(dict.fromkeys(each.commit or "unknown" for each in done))
    days = sorted({each.date for each in done})
    return f"- {command}: {machines}; commit {commits}; {days[0]}" + (f" to {days[-1]}" if len(days) > 1 else "")


def cell(name: str, values: Sequence[float], of: int) -> str:
    """Mean and spread as the page has them; nothing where there is no value.

    Args:
        name: of the column.
        values: of the runs that have one.
        of: how many runs there are.

    Example:
        >>> cell("CIDEr-D", [0.25, 0.35], 2), cell("steps", [1200.0], 1), cell("METEOR", [0.25, 0.25], 3)
        ('0.3000 ± 0.0707', '1200', '0.2500 ± 0.0000 (n = 2)')
    """
    if not values:
        return ""
    mean, spread = statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
    if name == "trained_parameters":
        shown = [f"{number / 1e6:.2f} M" for number in (mean, spread)]
    else:
        digits = {"minutes": 1, "steps": 0, "nfe_per_image": 1}.get(name, 4)
        shown = [f"{number:.{digits}f}" for number in (mean, spread)]
    text = f"{shown[0]} ± {shown[1]}" if len(values) > 1 else shown[0]
    return text if len(values) == of else f"{text} (n = {len(values)})"
