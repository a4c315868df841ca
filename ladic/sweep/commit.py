"""Which commit of ladic is at work."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def commit() -> str | None:
    """Short hash of the checkout that this file is part of, with "-dirty" where tracked files differ from it; None for
    an installed ladic, whose version says it.
    """
    file = Path(__file__)
    if _git("ls-files", "--error-unmatch", file.name) is None:  # it may lie in an environment inside another checkout
        return None
    return _git("describe", "--always", "--dirty", "--exclude=*")


def _git(*words: str) -> str | None:
    """What git prints in this folder; None if it fails or is absent."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", *words], cwd=Path(__file__).parent, env=environment, capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
