"""Configurations whose few lines stand for billions of values are refused before they are read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ladic.errors import UsageError

MOST = 1_000_000
"""Values that a configuration may have with its aliases written out; ours have some hundred."""


def check_configs(argv: list[str]) -> None:
    """Looks at every file given by ``-c`` or ``--config``; whether it is YAML at all is told by the parser.

    Raises:
        UsageError: if one isn't UTF-8, or aliases make it grow beyond all measure.
    """
    import yaml

    for file in _given(argv):
        if not file.is_file():
            continue
        try:
            root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        except UnicodeDecodeError as error:
            raise UsageError(
                f"--config: '{file}' is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
            ) from error
        except (yaml.YAMLError, ValueError, OSError, RecursionError):
            continue
        if root is not None and _size(root, {}) > MOST:
            raise UsageError(f"--config: '{file}' has more than {MOST} values once its aliases are written out")


def _given(argv: list[str]) -> Iterator[Path]:
    words = iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        if name in ("-c", "--config"):
            yield Path(value if equals else next(words, ""))


def _size(node: object, known: dict[int, int]) -> int:
    """Values below a node, each alias counted as often as it is used; a node that holds itself is infinite."""
    import yaml

    if id(node) not in known:
        known[id(node)] = MOST + 1  # what is met again inside itself
        parts: list[object] = []
        if isinstance(node, yaml.SequenceNode):
            parts = list(node.value)
        elif isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]
