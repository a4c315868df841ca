"""What a run's folder says about the run: the row it was begun as, and which of its commands came to their end."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ladic.errors import UsageError
from ladic.json_files import parse_json, read_text, write_json
from ladic.sweep.definition import Run, change, fingerprint

FILE = "sweep.json"


@dataclass
class Record:
    """``sweep.json`` of a run, written whole or not at all.

    Attributes:
        row: name.
        seed: of the run.
        definition: of the row, as it was when the run began.
        fingerprint: of that definition.
        seconds: of each command that came to its end, in order; those of earlier sittings are not known.
        machine: what the last of them ran on.
    """

    row: str
    seed: int
    definition: dict[str, Any]
    fingerprint: str
    seconds: list[float] = field(default_factory=list)
    machine: str = ""

    def finished(self, run: Run) -> bool:
        """Whether all commands of the run are done."""
        return len(self.seconds) >= len(run.row.commands)

    def write(self, folder: Path) -> None:
        write_json(folder / FILE, asdict(self))


def read_record(run: Run) -> Record | None:
    """The record of a run; None before it has begun.

    Raises:
        UsageError: if the run was begun as another row than it is now, or the file isn't a record.
    """
    file = run.folder / FILE
    if not file.is_file():
        return None
    try:
        record = Record(**parse_json(read_text(file)))
    except (ValueError, TypeError, OSError) as error:
        raise UsageError(f"'{file}': not the record of a run ({error}); move the folder away to begin anew") from error
    now = run.row.definition()
    if fingerprint(now) != record.fingerprint:
        raise UsageError(
            f"the row has changed since '{run.folder}' was begun: {change(record.definition, now)}; move the folder "
            "away to run it anew, or change the row back"
        )
    return record


def new_record(run: Run) -> Record:
    """Of a run that begins."""
    definition = run.row.definition()
    return Record(run.row.name, run.seed, definition, fingerprint(definition))


@contextlib.contextmanager
def alone(file: Path, wait: bool = False) -> Iterator[int | None]:
    """Yields a lock, held as long as its descriptor is open in this process or in one that inherits it; None if
    another process has it.

    Args:
        file: made if need be; what stands in it is of no matter.
        wait: for the other process.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield None
            return
        yield handle.fileno()
