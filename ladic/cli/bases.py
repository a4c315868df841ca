"""Configurations on top of others: ``base: NAME`` in a YAML file is read below it, and may have a base of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ladic.errors import UsageError


def with_bases(argv: list[str]) -> list[str]:
    """The words of a command line, with the bases of every ``-c FILE`` before it.

    Raises:
        UsageError: if a base is missing, or is its own base.

    Example:
        ``["fit", "-c", "experiment/table6_layer3.yaml"]`` becomes
        ``["fit", "-c", "experiment/ladic_paper.yaml", "-c", "experiment/table6_layer3.yaml"]``.
    """
    words: list[str] = []
    rest = iter(argv)
    for word in rest:
        name, equals, value = word.partition("=")
        if name not in ("-c", "--config"):
            words.append(word)
            continue
        given = value if equals else next(rest, None)
        if given is None:
            words.append(word)
            continue
        for file in (*bases_of(Path(given)), given):
            words += [name, str(file)]
    return words


def bases_of(file: Path) -> list[Path]:
    """The files below one, lowest first.

    Raises:
        UsageError: as ``with_bases``.
    """
    chain: list[Path] = []
    seen = [file.resolve()]
    while (name := read_mapping(file).get("base")) is not None:
        base = file.parent / str(name)
        if not base.is_file():
            raise UsageError(f"base='{name}': '{file}' names it, and there is no '{base}'")
        if base.resolve() in seen:
            raise UsageError(f"base='{name}': '{file}' is below itself")
        seen.append(base.resolve())
        chain.insert(0, base)
        file = base
    return chain


def read_mapping(file: Path) -> dict[str, Any]:
    """A YAML file's values; none where it can't be read, which the parser tells better."""
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def dropped(value: str) -> None:
    """Type of the option ``base``: it has been followed, and a printed configuration says all that it said."""
