"""What a run's folder says about the run: the row it was begun as, and which of its commands came to their end."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from ladic.errors import UsageError
from ladic.json_files import parse_json, read_text, write_json
from ladic.sweep.definition import Run, change, fingerprint

FILE = "sweep.json"


@dataclass(frozen=True)
class Done:
    """A command that came to its end, in the sitting that it did.

    Attributes:
        command: the first of its words.
        seconds: of that sitting; those of earlier ones are not known.
        machine: what it ran on.
        commit: of ladic as the sitting began; null where it was no checkout.
        date: of the end, as YYYY-MM-DD.
    """

    command: str
    seconds: float
    machine: str
    commit: str | None
    date: str


@dataclass
class Record:
    """``sweep.json`` of a run, written whole or not at all.

    Attributes:
        row: name.
        seed: of the run.
        definition: of the row, as it was when the run began.
        fingerprint: of that definition.
        done: the commands that came to their end, in order.
        name: drawn when the run began; one that is run anew has another.
        behind: names of the runs whose weights it has or learns from.
    """

    row: str
    seed: int
    definition: dict[str, Any]
    fingerprint: str
    done: list[Done] = field(default_factory=list)
    name: str = ""  # of a record that was written before there were names
    behind: dict[str, str] = field(default_factory=dict)

    def finished(self, run: Run) -> bool:
        """Whether all commands of the run are done."""
        return len(self.done) >= len(run.row.commands)

    def write(self, folder: Path) -> None:
        write_json(folder / FILE, asdict(self))


def read_record(run: Run) -> Record | None:
    """The record of a run; None before it has begun.

    Raises:
        UsageError: if the run was begun as another row than it is now, or on weights that were trained anew since, or
            if the file isn't a record.
    """
    file = run.folder / FILE
    if not file.is_file():
        return None
    try:
        values = parse_json(read_text(file))
        record = Record(**{**values, "done": [Done(**each) for each in values["done"]]})
    except (ValueError, KeyError, TypeError, OSError) as error:
        wrong = f"not the record of a run ({error!r})"
        raise UsageError(f"'{file}': {wrong}; move the folder away to begin anew") from error
    now = run.row.definition()
    if fingerprint(now) != record.fingerprint:
        raise UsageError(
            f"the row has changed since '{run.folder}' was begun: {change(record.definition, now)}; move the folder "
            "away to run it anew, or change the row back"
        )
    for other in run.before():
        theirs, name = read_record(other), record.behind.get(other.row.name)
        if theirs is not None and name is not None and theirs.name != name:
            raise UsageError(
                f"'{run.folder}' was begun on weights of '{other.folder}' that were trained anew since; move the "
                "folder away to run it anew"
            )
    return record


def is_finished(run: Run) -> bool:
    """Whether the run is done, as the row that it is now."""
    try:
        record = read_record(run)
    except UsageError:
        return False
    return record is not None and record.finished(run)


def new_record(run: Run) -> Record:
    """Of a run that begins."""
    definition = run.row.definition()
    records = {other.row.name: read_record(other) for other in run.before()}
    behind = {row: record.name for row, record in records.items() if record is not None and record.name}
    return Record(run.row.name, run.seed, definition, fingerprint(definition), name=uuid4().hex, behind=behind)


@contextlib.contextmanager
def alone(file: Path, waiting: Callable[[], None] | None = None) -> Iterator[int | None]:
    """Yields a lock, held as long as its descriptor is open in this process or in one that inherits it; None if
    another process has it.

    Args:
        file: made if need be; what stands in it is of no matter.
        waiting: called again and again while another process has it; what it raises ends the waiting. Without, nobody
            waits longer than a process takes that only looks (``is_busy``).
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as handle:
        looks = 2
        while not _locked(handle):
            looks -= 1
            if waiting is not None:
                waiting()
            elif not looks:
                yield None
                return
            time.sleep(0.2)  # flock that waits would go on waiting after a signal
        yield handle.fileno()


def lock_of(run: Run) -> Path:
    """What who is at a run holds."""
    return run.folder / ".lock"


def is_busy(run: Run) -> bool:
    """Whether another process is at the run."""
    if not lock_of(run).is_file():
        return False
    with alone(lock_of(run)) as lock:
        return lock is None


def _locked(handle: IO[str]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
