"""What is known of a prepared file: the command that made it, in a mark beside it that every sweep reads."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path

from ladic.errors import UsageError
from ladic.json_files import parse_json, read_text, write_json
from ladic.sweep.definition import Prepare


@dataclass(frozen=True)
class Mark:
    """``FILE.prepared`` beside FILE.

    Attributes:
        command: words after ``ladic``, as typed.
        done: whether it came to its end; what an unfinished one left is no result.
    """

    command: str
    done: bool


def mark_file(step: Prepare) -> Path:
    return step.makes.with_name(f"{step.makes.name}.prepared")


def lock_file(step: Prepare) -> Path:
    """Of whoever makes the file; sweeps with other outputs may want the same."""
    return step.makes.with_name(f".{step.makes.name}.lock")


def write_mark(step: Prepare, done: bool) -> None:
    write_json(mark_file(step), asdict(Mark(shlex.join(step.command), done)))


def found(step: Prepare) -> str | None:
    """In words, that the step's file is there; None where it has yet to be made, or was not made to the end.

    A file without a mark was made by hand, and is taken as it is.

    Raises:
        UsageError: if another command made the file, or the mark isn't one.
    """
    if not step.makes.exists():
        return None
    file = mark_file(step)
    if not file.is_file():
        return f"{step.makes} is there already, taken as made by hand: no '{file.name}' beside it names a command"
    try:
        mark = Mark(**parse_json(read_text(file)))
    except (ValueError, TypeError, OSError) as error:
        raise UsageError(
            f"'{file}': doesn't say what command made '{step.makes}' ({error}); remove both to make it anew"
        ) from error
    if not mark.done:
        return None
    if mark.command != shlex.join(step.command):
        raise UsageError(
            f"'{step.makes}' was made by `ladic {mark.command}`, and the sweep file now says "
            f"`ladic {shlex.join(step.command)}`; move it away to make it anew, or change the command back"
        )
    return f"{step.makes} is there already"
