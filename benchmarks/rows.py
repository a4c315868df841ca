"""Measurements kept line by line in a JSON file, so that a stopped benchmark goes on where it was."""

from __future__ import annotations

import contextlib
import datetime
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.pages import commit
from benchmarks.timing import machine

Cell = dict[str, Any]
"""One setting: plain values."""


class Rows:
    """One line for each setting, measured in one go.

    Args:
        file: of JSON lines; need not exist.
        common: what all settings of this run share; lines with other values, or of another machine, aren't seen.
    """

    def __init__(self, file: Path, **common: Any) -> None:
        self.file, self.common = file, {"machine": machine(), **common}
        self.lines = stored(file)
        self.commit = commit()  # now: what is checked out may change while it runs

    def get(self, cell: Cell) -> dict[str, Any] | None:
        """What was measured of a setting."""
        return self.lines.get(key({**self.common, **cell}))

    def add(self, cell: Cell, values: dict[str, Any]) -> None:
        """Keeps what was measured."""
        cell = {**self.common, **cell}
        line = {"cell": cell, "commit": self.commit, "date": datetime.date.today().isoformat(), **values}
        append(self.file, line)
        self.lines[key(cell)] = line

    def fill(self, cells: Iterable[Cell], measure: Callable[[Cell], dict[str, Any]], minutes: float) -> list[Cell]:
        """Measures what isn't there yet; the settings that the minutes left no room for.

        A setting is begun only if there is still as much time as the longest one so far has taken.
        """
        end, longest, left = time.monotonic() + 60 * minutes, 0.0, []
        for cell in cells:
            if self.get(cell) is not None:
                continue
            begun = time.monotonic()
            if begun + longest >= end:
                left.append(cell)
                continue
            self.add(cell, measure(cell))
            longest = max(longest, time.monotonic() - begun)
            print(json.dumps(self.get(cell)), flush=True)
        return left


def key(cell: Cell) -> str:
    """The same for equal settings."""
    return json.dumps(cell, sort_keys=True)


def stored(file: Path) -> dict[str, dict[str, Any]]:
    """Lines of a file by the key of their cell; one that was cut off while it was written is passed over."""
    lines: dict[str, dict[str, Any]] = {}
    for text in file.read_text().splitlines() if file.is_file() else []:
        with contextlib.suppress(json.JSONDecodeError):
            line = json.loads(text)
            lines[key(line["cell"])] = line
    return lines


def append(file: Path, line: dict[str, Any]) -> None:
    """One more line, apart from one that was cut off before it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    whole = not file.is_file() or file.read_text()[-1:] in ("", "\n")
    with file.open("a") as out:
        out.write(("" if whole else "\n") + json.dumps(line) + "\n")
