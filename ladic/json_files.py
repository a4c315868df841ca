"""JSON files: those that strangers wrote are read, too large, too deep or odd, with an error of the user's and no crash
of ours, and our own are written whole."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

from ladic.errors import UsageError
from ladic.memory import free_memory

GROWTH = 8
"""Bytes of Python objects for a byte of JSON; about 6 were measured for lists of small objects."""

HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""In JSON, what halves of characters look like; most are followed by the other half."""


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
    """Its value, halves of characters in it replaced: few of what reads texts later can take them.

    Raises:
        ValueError: if it isn't JSON, or JSON nested too deep to be read.

    Example:
        >>> parse_json("[1, 2]")
        [1, 2]
    """
    try:
        value = json.loads(text)
        return _mended(value) if HALF.search(text) else value
    except RecursionError:
        raise ValueError("nested too deep") from None


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file whole or not at all."""
    text = json.dumps(value, ensure_ascii=False, indent=None) + "\n"
    write_whole(path, text.encode(errors="backslashreplace"))  # half a character is \\ud83d in JSON too


def write_whole(path: Path, content: bytes) -> None:
    """Writes any file whole or not at all, and the folders above it.

    Raises:
        OSError: that names this file, also where the disk is full, which the system tells without a name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid4().hex[:8]}.part")  # of this writer alone
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def whole_characters(text: str) -> str:
    """The same with U+FFFD for halves of characters, as an emoji cut in two leaves them.

    Example:
        >>> whole_characters("a dog \\ud83d") == "a dog \\ufffd"
        True
    """
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return whole_characters(value)
    if isinstance(value, list):
        return [_mended(item) for item in value]
    if isinstance(value, dict):
        return {whole_characters(key): _mended(item) for key, item in value.items()}
    return value
