"""Lines that several pages of results share, and the options of the benchmarks that write them."""

from __future__ import annotations

import argparse
import datetime
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.timing import machine

RESULTS = Path(__file__).parent / "results"
WORK = Path("runs")


def commit() -> str:
    """Short hash of what is checked out, with "-dirty" where files are changed; empty outside a checkout."""
    words = ["git", "-C", str(RESULTS), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(words, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:  # no git
        return ""


def conditions(*facts: str, lines: Iterable[Mapping[str, Any]] = ()) -> str:
    """The first lines of a page's list: machine, facts, and commit and date, or those of the lines that it shows."""
    shown = list(lines)
    commits = ", ".join(dict.fromkeys(line["commit"] for line in shown)) or commit()
    dates = ", ".join(dict.fromkeys(line["date"] for line in shown)) or datetime.date.today().isoformat()
    return f"- {'; '.join((machine(), *facts))}; commit {commits}; {dates}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table of numbers."""
    return [f"| {' | '.join(head)} |", f"|{'---:|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]


def left_out(words: Sequence[str]) -> list[str]:
    """What a page says of the settings that the time was too short for."""
    return ["", f"Not measured for lack of time: {', '.join(words)}."] if words else []


def words(page: Path) -> list[str]:
    """What was written by hand of a page of ``RESULTS``, in ``benchmarks/words``; nothing for pages elsewhere."""
    file = RESULTS.parent / "words" / page.name
    there = page.resolve().parent == RESULTS.resolve() and file.is_file()
    return ["", *file.read_text(encoding="utf-8").splitlines()] if there else []


def options(
    doc: str,
    name: str,
    *,
    precision: str | None = "bf16",
    batch: int | None = 8,
    rounds: int | None = 5,
    sizes: bool = True,
) -> argparse.ArgumentParser:
    """A parser with what the benchmarks that keep their measurements have in common.

    Args:
        doc: of the benchmark.
        name: of its page and of the folder that its measurements are kept in.
        precision, batch, rounds: defaults; None leaves the option out.
        sizes: whether there is the full size and a toy.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=doc.splitlines()[0])
    if precision is not None:
        parser.add_argument("--precision", choices=("fp32", "bf16"), default=precision)
    if batch is not None:
        parser.add_argument("--batch", type=count, default=batch, help=f"pictures at a time (default: {batch})")
    if rounds is not None:
        parser.add_argument("--rounds", type=count, default=rounds, help="in turn, after one to warm up")
    if sizes:
        parser.add_argument("--size", choices=("paper", "toy"), default="paper", help="toy: to see that it runs")
    parser.add_argument("--minutes", type=float, default=600, help="what doesn't fit is left for the next time")
    parser.add_argument("--work", type=Path, default=WORK / name, help="folder of what has been measured")
    parser.add_argument("--page", type=Path, default=RESULTS / f"{name}.md")
    return parser


def publish(page: Path, lines: Sequence[str]) -> None:
    """Writes a page and prints it."""
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(page.read_text(encoding="utf-8"))


def count(word: str) -> int:
    """A number of things, for argparse."""
    if not word.isdigit() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"'{word}': need a whole number, 1 or more")
    return int(word)


def sampling(scores: dict[str, Any]) -> list[str]:
    """How captions came about, from ``scores_<split>.json``: sampler, candidates, selector, counted NFE, time."""
    components = scores["config"]["components"]
    sampler, selector = components["sampler"], components["selector"]
    settings = {**sampler["init_args"]}
    return [
        f"- {_name(sampler)} {settings}, guidance scale {scores['guidance']['scale']}; {scores['num_candidates']} "
        f"samples, chosen by {_name(selector)} {_plain(selector)};",
        f"  counted NFE {scores['nfe']} a sample and {scores['selection_nfe']} for choosing; "
        f"{scores['seconds_per_image']:.3f} s a picture with scoring",
    ]


def _name(part: dict[str, Any]) -> str:
    return str(part["class_path"]).rpartition(".")[2]


def _plain(part: dict[str, Any]) -> dict[str, Any]:
    """Arguments with a part among them given by its name."""
    arguments = part["init_args"]
    return {key: _name(value) if isinstance(value, dict) else value for key, value in arguments.items()}
