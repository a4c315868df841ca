"""Python modules by their source: what a module defines and imports at its top level, found and parsed, never run."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

from ladic.plugins import one_line


class UnreadableError(Exception):
    """A module whose source can't be found or parsed."""


class Module:
    """What a module defines and imports at its top level, by source.

    Attributes:
        classes: name -> definition.
        aliases: local name -> absolute dotted name it was imported from.
        stars: modules imported by ``from x import *``.
        imported: absolute dotted names that importing this module imports; some are modules, some names in them.
        docstring: the module's own.
    """

    def __init__(self, name: str, spec: ModuleSpec) -> None:
        self.name = name
        self.file = spec.origin or ""
        self.classes: dict[str, ast.ClassDef] = {}
        self.aliases: dict[str, str] = {}
        self.stars: list[str] = []
        self.imported: list[str] = []
        self.docstring = ""
        package = name if spec.submodule_search_locations is not None else name.rpartition(".")[0]
        if not self.file.endswith(".py"):  # a namespace package or compiled: no classes to read
            return
        try:
            tree = ast.parse(Path(self.file).read_bytes())
        except (OSError, SyntaxError, ValueError) as error:
            raise UnreadableError(f"{self.file}: {one_line(error, with_type=True)}") from error
        self.docstring = ast.get_docstring(tree) or ""
        for statement in top_level(tree.body):
            if isinstance(statement, ast.ClassDef):
                self.classes[statement.name] = statement
            elif isinstance(statement, ast.Import):
                for alias in statement.names:
                    self.imported.append(alias.name)
                    self.aliases[alias.asname or alias.name.partition(".")[0]] = (
                        alias.name if alias.asname else alias.name.partition(".")[0]
                    )
            elif isinstance(statement, ast.ImportFrom):
                origin = statement.module or ""
                if statement.level:
                    origin = importlib.util.resolve_name("." * statement.level + origin, package)
                self.imported.append(origin)
                for alias in statement.names:
                    if alias.name == "*":
                        self.stars.append(origin)
                    else:
                        self.imported.append(f"{origin}.{alias.name}")
                        self.aliases[alias.asname or alias.name] = f"{origin}.{alias.name}"


def locate(name: str) -> ModuleSpec | None:
    """Spec of a module, its parents not imported: a stranger's package may import torch in its ``__init__``."""
    spec: ModuleSpec | None = None
    path = None
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        if end > 1:
            path = spec.submodule_search_locations if spec is not None else None
            if path is None:
                return None
        part = ".".join(parts[:end])
        try:
            specs = (finder.find_spec(part, path, None) for finder in sys.meta_path)
            spec = next((found for found in specs if found is not None), None)
        except KeyError:  # a namespace package inside a package asks its imported parent where it is
            return importlib.util.find_spec(name)
    return spec


def top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run on import, those inside ``if`` and ``try`` included; type-checking blocks never run."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If) and dotted_name(statement.test).rpartition(".")[2] != "TYPE_CHECKING":
            yield from top_level(statement.body + statement.orelse)
        elif isinstance(statement, ast.Try):
            handlers = [inner for handler in statement.handlers for inner in handler.body]
            yield from top_level(statement.body + handlers + statement.orelse + statement.finalbody)


def dotted_name(expression: ast.expr) -> str:
    """``a.b.C`` of a name, an attribute or a subscripted one; empty for anything else."""
    if isinstance(expression, ast.Subscript):
        return dotted_name(expression.value)
    if isinstance(expression, ast.Attribute):
        return f"{dotted_name(expression.value)}.{expression.attr}"
    return expression.id if isinstance(expression, ast.Name) else ""
