"""The registered components, described without importing them.

Torch alone takes a second to import, so ``ladic components`` reads source instead: the modules that the entry points
name and those they import, as importing them would. What only running the code can tell (a class made by a function,
a default computed elsewhere) is shown as written or not at all.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field

from ladic.plugins import KINDS, Kind, component_entry_points, is_ours, log, unmapped
from ladic.sources import Module, UnreadableError, dotted_name, locate


@dataclass(frozen=True)
class Parameter:
    """A constructor argument as its source says it; ``default`` is None where it has none."""

    name: str
    type: str | None
    default: str | None
    help: str


@dataclass(frozen=True)
class Component:
    """A registered class, described from its source.

    Attributes:
        kind: the ``Kind`` by name.
        name: short name, accepted on the command line.
        class_path: import path, for YAML files and where two plug-ins share a short name.
        plugin: name of the entry point that brings it in.
        summary: first line of its docstring.
        file: where it is written.
        description: what else its docstring says before its sections.
        papers: those that its docstring, or its module's, names.
        parameters: what its constructor takes, base classes' keywords included.
    """

    kind: str
    name: str
    class_path: str
    plugin: str
    summary: str
    file: str
    description: str = field(default="", repr=False)
    papers: tuple[str, ...] = field(default=(), repr=False)
    parameters: tuple[Parameter, ...] = field(default=(), repr=False)


def find_components() -> list[Component]:
    """Every registered component, by kind and name, read from source: nothing is imported.

    A stranger's plug-in whose source can't be found or read is named in one warning line and the rest goes on.

    Raises:
        UsageError: if our own modules aren't there.
    """
    points = component_entry_points()
    sources = _Sources({point.module.partition(".")[0] for point in points} | {"ladic"})
    found: dict[str, Component] = {}

    def collect(plugin: str, module: str) -> None:
        for path in sources.classes(module):
            kind = sources.kind(path)
            if kind is not None and path not in found:
                found[path] = sources.component(path, kind, plugin)

    for point in points:
        try:
            collect(point.name, point.module)
        except UnreadableError as error:
            if is_ours(point) and sources.module(point.module) is None:
                raise unmapped(error) from error
            log.warning("plug-in '%s' (%s) is left out: %s", point.name, point.value, error)
    for module in (
        "ladic.rerank",
        "ladic.rounding",
        "ladic.postprocess",
        "ladic.time_sampling",
    ):  # registered with the captioner, which imports them
        collect("builtin", module)
    order = [kind.name for kind in KINDS]
    return sorted(found.values(), key=lambda component: (order.index(component.kind), component.name))


def parameters_of(path: str) -> tuple[Parameter, ...]:
    """Constructor arguments of a class of ours, or fields of a dataclass, by its import path, read from source."""
    sources = _Sources({path.partition(".")[0]})
    found = sources.find_class(path)
    if found is None or _constructor(found[1]) is not None:
        return tuple(sources._parameters(path))
    fields = (line for line in found[1].body if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name))
    return tuple(
        Parameter(
            name=ast.unparse(line.target),
            type=ast.unparse(line.annotation),
            default=ast.unparse(line.value) if line.value else None,
            help="",
        )
        for line in fields
    )


class _Sources:
    """Modules by name, read on demand; only those under ``roots``, so that torch's source is never opened."""

    def __init__(self, roots: set[str]) -> None:
        self.roots = roots
        self._modules: dict[str, Module | None] = {}
        self._kinds = {kind.base: kind for kind in KINDS}

    def module(self, name: str) -> Module | None:
        """The module, or None where there is none of that name.

        Raises:
            UnreadableError: if it is there and can't be parsed.
        """
        if name.partition(".")[0] not in self.roots:
            return None
        if name not in self._modules:
            spec = locate(name)
            self._modules[name] = None if spec is None else Module(name, spec)
        return self._modules[name]

    def classes(self, start: str) -> list[str]:
        """Import paths of the public, concrete classes that importing a module defines in its top-level package.

        Raises:
            UnreadableError: if the module isn't there, or a module on the way can't be parsed.
        """
        if self.module(start) is None:
            raise UnreadableError(f"no module named '{start}'")
        top = start.partition(".")[0]
        seen: dict[str, Module] = {}
        waiting = [start]
        while waiting:
            name = waiting.pop()
            module = self.module(name) if name not in seen and name.partition(".")[0] == top else None
            if module is not None:
                seen[name] = module
                waiting.extend(module.imported)
                waiting.append(name.rpartition(".")[0])  # importing a submodule runs its packages first
        return [
            f"{module.name}.{name}"
            for module in seen.values()
            for name, node in module.classes.items()
            if not name.startswith("_") and not _is_abstract(node)
        ]

    def definition(self, dotted: str, depth: int = 0) -> str:
        """Where a dotted name is defined, re-exports followed; unchanged if that isn't in our sources."""
        head, _, name = dotted.rpartition(".")
        module = self.module(head) if head and depth < 20 else None
        if module is None or name in module.classes:
            return dotted
        if name in module.aliases:
            return self.definition(module.aliases[name], depth + 1)
        for star in module.stars:
            target = self.definition(f"{star}.{name}", depth + 1)
            if self.find_class(target) is not None:
                return target
        return dotted

    def find_class(self, path: str) -> tuple[Module, ast.ClassDef] | None:
        """Module and definition of a class, by the place where it is defined."""
        head, _, name = path.rpartition(".")
        module = self.module(head)
        return (module, module.classes[name]) if module is not None and name in module.classes else None

    def bases(self, path: str) -> list[str]:
        """Import paths of a class's direct bases."""
        found = self.find_class(path)
        if found is None:
            return []
        module, node = found
        return [self.definition(self._qualify(module, dotted_name(base))) for base in node.bases]

    def lineage(self, path: str) -> list[str]:
        """The class and its ancestors, near ones first."""
        line = [path]
        for ancestor in line:  # grows while it is walked
            line.extend(base for base in self.bases(ancestor) if base not in line)
        return line

    def kind(self, path: str) -> Kind | None:
        """The kind that a class belongs to, None for other classes and for the base classes themselves."""
        ancestors = self.lineage(path)[1:]
        return next((self._kinds[ancestor] for ancestor in ancestors if ancestor in self._kinds), None)

    def component(self, path: str, kind: Kind, plugin: str) -> Component:
        """Description of a class that ``kind`` was found for."""
        found = self.find_class(path)
        assert found is not None
        module, node = found
        text = ast.get_docstring(node) or ""
        return Component(
            kind=kind.name,
            name=node.name,
            class_path=path,
            plugin=plugin,
            summary=next(iter(text.splitlines()), ""),
            file=module.file,
            description=_SECTION.split("\n".join(text.splitlines()[1:]), maxsplit=1)[0].strip(),
            papers=named_papers(text) or named_papers(module.docstring),
            parameters=tuple(p for p in self._parameters(path) if p.name not in kind.given),
        )

    def _parameters(self, path: str) -> list[Parameter]:
        """Constructor arguments; where ``**kwargs`` passes them on, the ancestors' keywords follow."""
        definitions = [found[1] for found in map(self.find_class, self.lineage(path)) if found is not None]
        helps: dict[str, str] = {}
        for node in reversed(definitions):
            for documented in (node, _constructor(node)):
                helps.update(_documented_args(ast.get_docstring(documented) or "") if documented else {})
        parameters: dict[str, Parameter] = {}
        for node in definitions:
            init = _constructor(node)
            if init is None:
                continue
            for argument, default in _arguments(init.args):
                parameters.setdefault(
                    argument.arg,
                    Parameter(
                        name=argument.arg,
                        type=ast.unparse(argument.annotation) if argument.annotation else None,
                        default=ast.unparse(default) if default else None,
                        help=helps.get(argument.arg, ""),
                    ),
                )
            if init.args.kwarg is None:
                break
        return list(parameters.values())

    def _qualify(self, module: Module, dotted: str) -> str:
        """Absolute form of a name as written in a module."""
        first, _, rest = dotted.partition(".")
        if first in module.classes:
            return f"{module.name}.{dotted}"
        if first in module.aliases:
            return f"{module.aliases[first]}.{rest}" if rest else module.aliases[first]
        for star in module.stars:
            target = self.definition(f"{star}.{dotted}")
            if self.find_class(target) is not None:
                return target
        return dotted


_SECTION = re.compile(r"^(?:Args|Attributes|Example|Examples|Raises|Returns)(?: of [^:\n]*)?:", re.MULTILINE)
_AUTHORS = r"[A-Z][\w'-]+(?: (?:&|and) [A-Z][\w'-]+| et al\.)"
_PLACE = r"(?:§|Table |Figure |eq\. |appendix )[\w.]*\w"
_CITED = re.compile(rf"({_AUTHORS}),? \(?((?:19|20)\d\d)|[Pp]aper,? ({_PLACE})")


def named_papers(text: str) -> tuple[str, ...]:
    """Papers that a docstring names by authors and year; "paper §3.2" is LaDiC's own.

    >>> named_papers("DDIM (Song et al. 2020, eq. 12), as in the paper §3.3.")
    ('Song et al. 2020', 'LaDiC (Wang et al. 2024), §3.3')
    """
    found = (
        f"{authors} {year}" if authors else f"LaDiC (Wang et al. 2024), {place}"
        for authors, year, place in _CITED.findall(" ".join(text.split()))
    )
    return tuple(dict.fromkeys(found))


def _constructor(node: ast.ClassDef) -> ast.FunctionDef | None:
    inits = (statement for statement in node.body if isinstance(statement, ast.FunctionDef))
    return next((init for init in inits if init.name == "__init__"), None)


def _arguments(arguments: ast.arguments) -> list[tuple[ast.arg, ast.expr | None]]:
    """Arguments with their defaults, ``self`` left out."""
    positional = arguments.posonlyargs + arguments.args
    missing: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    pairs = list(zip(positional, missing + list(arguments.defaults), strict=True))[1:]
    return pairs + list(zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True))


def _documented_args(docstring: str) -> dict[str, str]:
    """Texts of a docstring's ``Args:`` section by argument name, each in one line."""
    texts: dict[str, str] = {}
    names: list[str] = []
    section = re.search(r"^Args:\n((?:[ \t]+\S.*\n?|[ \t]*\n)*)", docstring, flags=re.MULTILINE)
    lines = section[1].splitlines() if section else []
    indent = next((len(line) - len(line.lstrip()) for line in lines if line.strip()), 0)
    for line in lines:
        item = re.match(rf"^\s{{{indent}}}(\*{{0,2}}\w+(?:, \w+)*)(?: \(.*?\))?:\s*(.*)$", line)
        if item:
            names = item[1].replace("*", "").split(", ")
            texts.update(dict.fromkeys(names, item[2].strip()))
        elif line.strip():
            texts.update({name: f"{texts[name]} {line.strip()}".strip() for name in names})
    return texts


def _is_abstract(node: ast.ClassDef) -> bool:
    """Whether a class says of itself that it can't be instantiated."""
    if any(dotted_name(base).rpartition(".")[2] == "ABC" for base in node.bases):
        return True
    return any(
        dotted_name(decorator).rpartition(".")[2] == "abstractmethod"
        for statement in node.body
        if isinstance(statement, ast.FunctionDef)
        for decorator in statement.decorator_list
    )
