"""What commands that fit something check before they begin: their numbers, and that the result can be written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ladic.errors import UsageError
from ladic.json_files import write_whole


def check_numbers(options: Any, *names: str) -> None:
    """Refuses numbers below one, and a learning rate of nothing.

    Raises:
        UsageError: naming the option.
    """
    for name in names:
        if getattr(options, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} {getattr(options, name)}: need at least 1")
    rate = getattr(options, "learning_rate", None)
    if rate is not None and not rate > 0:
        raise UsageError(f"--learning-rate {rate:g}: need more than 0")


def check_output(path: Path, folder: bool = False) -> None:
    """Makes the folders of ``--output`` and tries to write there: told now, nothing is lost.

    Args:
        path: of the option.
        folder: whether a folder is wanted, and not a file.

    Raises:
        UsageError: with what is in the way.
    """
    if not folder and path.is_dir():
        raise UsageError(f"--output {path}: a folder has that name; give the name of a file")
    trial = path / "trial" if folder else path.with_name(f"{path.name}.trial")
    try:
        write_whole(trial, b"")
        trial.unlink(missing_ok=True)
    except OSError as error:
        blocked = isinstance(error, FileExistsError | NotADirectoryError)
        reason = "a file stands where a folder has to be" if blocked else error.strerror or error
        what = "folder" if folder else "file"
        raise UsageError(f"--output {path}: can't be written ({reason}); give a {what} at another place") from error
