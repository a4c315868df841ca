"""``ladic components``: what can be swapped in, and the flags that do it."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections import Counter
from collections.abc import Sequence

from ladic.catalog import Component, find_components
from ladic.cli.parser import LineParser
from ladic.errors import UsageError
from ladic.plugins import KINDS, Kind, unknown

_BUILTIN = ("builtin", "builtin_captioners", "builtin_data")


def main(argv: list[str]) -> int:
    """Runs ``ladic components [KIND [NAME]]``."""
    kinds = ", ".join(kind.name for kind in KINDS)
    parser = LineParser(
        prog="ladic components",
        description="List the registered components, or show one with its parameters. Nothing is imported for it.",
    )
    parser.add_argument("kind", nargs="?", help=f"one of {kinds}")
    parser.add_argument("name", nargs="?", help="a component, as the list names it")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    components = find_components()
    chosen = KINDS if args.kind is None else (_kind(args.kind, components),)
    if args.name is None:
        if args.json:
            _print_json([c for c in components if c.kind in {kind.name for kind in chosen}], components)
        else:
            _print_list(chosen, components)
        return 0
    named = _named(chosen[0], args.name, components)
    if args.json:
        _print_json(named, components)
    else:
        print("\n\n".join(_details(component, components) for component in named))
    return 0


def flag(component: Component, components: Sequence[Component]) -> str:
    """What to type to choose a component; its import path where two share a short name.

    >>> ddim = Component("samplers", "DDIMSampler", "ladic.components.samplers.ddim.DDIMSampler", "builtin", "", "")
    >>> flag(ddim, [ddim])
    '--model.sampler=DDIMSampler'
    """
    option = next(kind.flag for kind in KINDS if kind.name == component.kind)
    shared = Counter((c.kind, c.name) for c in components)[component.kind, component.name] > 1
    return f"{option}={component.class_path if shared else component.name}"


def _kind(typed: str, components: Sequence[Component]) -> Kind:
    """The kind that was typed; singular, hyphens and the flag's last word are understood."""
    spellings = {}
    for kind in KINDS:
        for spelling in (kind.name, kind.label.replace(" ", "_"), kind.flag.rpartition(".")[2].lstrip("-")):
            spellings[spelling] = kind
    wanted = typed.lower().replace("-", "_")
    if wanted in spellings:
        return spellings[wanted]
    for component in components:
        if component.name.lower() == wanted:
            raise UsageError(f"'{typed}' is no kind of component; type `ladic components {component.kind} {typed}`")
    raise unknown("kind of component", typed, [kind.name for kind in KINDS])


def _named(kind: Kind, typed: str, components: Sequence[Component]) -> list[Component]:
    """The components of that name or import path: more than one if plug-ins share it."""
    same_kind = [component for component in components if component.kind == kind.name]
    named = [component for component in same_kind if typed in (component.name, component.class_path)]
    if not named:
        raise unknown(kind.label, typed, [component.name for component in same_kind])
    return named


def _print_json(chosen: Sequence[Component], components: Sequence[Component]) -> None:
    print(json.dumps([{**dataclasses.asdict(c), "flag": flag(c, components)} for c in chosen], indent=2))


def _print_list(kinds: Sequence[Kind], components: Sequence[Component]) -> None:
    width = max((len(component.name) for component in components), default=0)
    for kind in kinds:
        print(f"{kind.name}  ({kind.flag}=NAME)")
        for component in components:
            if component.kind == kind.name:
                origin = "" if component.plugin in _BUILTIN else f"  [plug-in {component.plugin}]"
                print(f"  {component.name:{width}}  {component.summary}{origin}".rstrip())
        print()
    print("`ladic components KIND NAME` shows the parameters of one.")


def _details(component: Component, components: Sequence[Component]) -> str:
    kind = next(kind for kind in KINDS if kind.name == component.kind)
    choose = flag(component, components)
    lines = [f"{component.name} ({kind.label}): {component.summary}".rstrip(": "), ""]
    if component.description:
        lines += [component.description, ""]
    lines += [f"  flag   {choose}", f"  class  {component.class_path}", f"  file   {component.file}"]
    lines += [f"  paper  {'; '.join(component.papers)}", ""] if component.papers else [""]
    if not component.parameters:
        lines.append("It takes no parameters.")
        return "\n".join(lines)
    lines.append(f"parameters (type {kind.flag}.NAME=VALUE):")
    for parameter in component.parameters:
        text = f"  {parameter.name}"
        text += f": {parameter.type}" if parameter.type else ""
        text += f" = {parameter.default}" if parameter.default is not None else "  (required)"
        lines.append(text)
        lines += textwrap.wrap(parameter.help, width=100, initial_indent="      ", subsequent_indent="      ")
    if kind.given:
        lines += ["", f"The model fills in {', '.join(kind.given)}."]
    return "\n".join(lines)
