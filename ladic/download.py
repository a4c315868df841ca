"""Fetching large files: resumed where they stopped, checked by their sum, from the next mirror if one fails."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from ladic.errors import UsageError

CHUNK = 1 << 20
TIMEOUT = 30
"""Seconds without a byte after which a source counts as dead."""

Progress = Callable[[int, int | None], None]
"""``progress(bytes so far, bytes in all or None)``."""


def fetch(urls: Sequence[str], target: Path, size: int | None, sha256: str | None, progress: Progress) -> str:
    """Fetches a file, and returns its SHA-256 sum.

    What has come lies in ``TARGET.part`` until it is whole and right, so that the same call goes on there.

    Args:
        urls: sources, tried in turn.
        target: file to write.
        size: bytes it must have, if known.
        sha256: its sum, if known.
        progress: told after every megabyte.

    Raises:
        UsageError: naming every source and what was wrong with it.
    """
    part, failures = target.with_name(target.name + ".part"), []
    target.parent.mkdir(parents=True, exist_ok=True)
    for url in urls:
        try:
            _receive(url, part, size, progress)
        except (OSError, http.client.HTTPException, ValueError) as error:
            failures.append(f"{url}: {_told(error)}")
            continue
        found = sha256_of(part)
        if size is not None and part.stat().st_size != size:
            failures.append(f"{url}: {part.stat().st_size} bytes came, {size} are expected")
        elif sha256 is not None and found != sha256:
            failures.append(f"{url}: its SHA-256 is {found}, {sha256} is expected")
        else:
            part.replace(target)
            return found
        # Going on from wrong bytes can't end well; they are kept for whoever wants to know what came.
        part.replace(target.with_name(target.name + ".wrong"))
    kept = f"; what came lies in {part}, the same command goes on there" if part.exists() else ""
    raise UsageError(
        f"{target.name}: can't be fetched ({'; '.join(failures)}){kept}; --mirror URL names another source"
    )


def sha256_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _receive(url: str, part: Path, size: int | None, progress: Progress) -> None:
    """Appends to ``part`` what is missing of it; starts it anew where the server can't go on in the middle."""
    have = part.stat().st_size if part.exists() else 0
    if size is not None and have >= size:
        return
    headers = {"User-Agent": "ladic", **({"Range": f"bytes={have}-"} if have else {})}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if have and error.code == 416:  # there is nothing after what we have
            return
        raise
    with answer:
        resumed = have > 0 and answer.status == 206
        have = have if resumed else 0
        rest = answer.headers.get("Content-Length")
        whole = size or (have + int(rest) if rest else None)
        with part.open("ab" if resumed else "wb") as opened:
            while chunk := answer.read(CHUNK):
                opened.write(chunk)
                have += len(chunk)
                progress(have, whole)
    if whole is not None and have < whole:
        raise OSError(f"the connection ended after {have} of {whole} bytes")


def _told(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error) or type(error).__name__
