"""The parser of the small subcommands: argparse whose complaints are one line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from ladic.errors import UsageError


class LineParser(argparse.ArgumentParser):
    """Raises UsageError where argparse would print its usage and leave.

    Where a command has ``overrides``, they are the words after ``--``. argparse itself gives up on them as soon as
    another positional argument stands before an option.
    """

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        words = list(args or [])
        takes_overrides = any(action.dest == "overrides" for action in self._actions)
        cut = words.index("--") if takes_overrides and "--" in words else len(words)
        options = super().parse_args(words[:cut], namespace)
        if cut < len(words):
            options.overrides = [*options.overrides, *words[cut + 1 :]]
        return options

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (`{self.prog} --help` shows what is accepted)")
