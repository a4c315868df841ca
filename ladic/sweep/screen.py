"""What a sweep shows: lines that stay, and under them one that moves."""

from __future__ import annotations

import sys
import threading
from typing import TextIO


class Screen:
    """Lines of several threads, none within another."""

    def __init__(self) -> None:
        self._wide = 0  # columns of the line that moves
        self._turn = threading.Lock()

    def say(self, line: str, to: TextIO | None = None) -> None:
        """Writes a line that stays.

        Args:
            line: without its end.
            to: standard output, if None.
        """
        with self._turn:
            if self._wide:
                print("\r" + " " * self._wide + "\r", end="", flush=True)
                self._wide = 0
            print(line, file=to or sys.stdout, flush=True)

    def move(self, line: str) -> None:
        """Writes a line that the next one replaces, where there is a terminal."""
        with self._turn:
            if sys.stdout.isatty():
                print(f"\r{line:{self._wide}}", end="", flush=True)
                self._wide = len(line)
