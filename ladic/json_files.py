"""Reading JSON that strangers wrote: too large, too deep or odd, it is an error of the user's and no crash of ours."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ladic.errors import UsageError

GROWTH = 8
"""Bytes of Python objects for a byte of JSON; about 6 were measured for lists of small objects."""


def read_text(path: str | Path) -> str:
    """The text of a file, byte order mark left out.

    Raises:
        UsageError: before anything is read, if its contents would not fit into memory.
        OSError, UnicodeDecodeError: as ``Path.read_text``.
    """
    size, free = Path(path).stat().st_size, free_memory()
    if size * GROWTH > free:
        raise UsageError(
            f"{path}: with {size / 2**30:.1f} GiB it is larger than memory can hold ({free / 2**30:.1f} GiB free, "
            f"{GROWTH} times the file is needed); split it, or use a machine with more"
        )
    return Path(path).read_text(encoding="utf-8-sig")


def parse_json(text: str) -> Any:
    """Its value.

    Raises:
        ValueError: if it isn't JSON, or JSON nested too deep to be read.

    Example:
        >>> parse_json("[1, 2]")
        [1, 2]
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def free_memory() -> int:
    """Bytes that a process can still get."""
    file = Path("/proc/meminfo")
    if file.is_file():
        for line in file.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
