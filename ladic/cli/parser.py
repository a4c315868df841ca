"""The parser of the small subcommands: argparse whose complaints are one line."""

from __future__ import annotations

import argparse
from typing import NoReturn

from ladic.errors import UsageError


class LineParser(argparse.ArgumentParser):
    """Raises UsageError where argparse would print its usage and leave."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (`{self.prog} --help` shows what is accepted)")
