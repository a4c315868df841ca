"""jsonargparse's complaints in one line: the option as typed, what it takes, and the nearest name.

The arguments of a component are parsed by a parser of their own, whose complaint comes back inside that of the parser
around it. So all are written in one form, "--option=value: what is wrong", and the outer one only lengthens the option.
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

from ladic.plugins import KINDS, closest
from ladic.spec import class_path

TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "NoneType": "null",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping {key: value}",
}
"""What a Python type is called by those who type values."""

Parser = argparse.ArgumentParser


def explain(message: str, parser: Parser) -> str:
    """A complaint of ``parser`` in one line; the message itself, shortened, where it has no known form."""
    lines = [re.sub(r"^(- +)+", "", line.strip()) for line in message.splitlines()]
    key = ""
    if told := re.match(r'Parser key "([\w.+]+)":? ?(.*)', lines[0] if lines else ""):
        key, lines[0] = re.sub(r"^(fit|validate|test|predict)\.", "", told.group(1)).rstrip("+"), told.group(2)
    lines = [line for line in lines if line]
    for rule in (_inside, _file, _missing, _class, _option, _value):
        line = rule(key, lines, parser)
        if line is not None:
            return line
    text = "; ".join(line for line in lines if not line.startswith(("Subtypes: ", "Given value type: ")))
    return _short(f"--{key}: {text}" if key else text or message, 300)


# Rules: (option without its hyphens, or "", the lines of the complaint, the parser) -> one line, or None if not theirs.


def _inside(key: str, lines: list[str], parser: Parser) -> str | None:
    """A complaint of the parser of a component's arguments."""
    for line in lines:
        if key and re.match(r"--[\w.]+(=.*?)?: ", line):
            return re.sub(r"(?<!\S)--(?=\w)", f"--{key}.", line)
    return None


def _file(key: str, lines: list[str], parser: Parser) -> str | None:
    """The configuration file itself."""
    text = " ".join(lines)
    if found := re.match(r"(?:File does not exist|Path is not a file|File not readable): '(.*)'", text):
        what = "no such file" if "not exist" in text else "can't be read as a file"
        return f"--{key}={found.group(1)}: {what}; give a YAML file, `ladic configs` lists the shipped ones"
    if text.startswith("Problems parsing config: "):
        return _short(f"--config: not YAML: {text.removeprefix('Problems parsing config: ')}", 300)
    if text.startswith("Unexpected config:"):
        start = text.removeprefix("Unexpected config:").strip()
        what = f"begins with '{_short(start, 40)}'" if start else "is empty"
        return f"--config: the file {what}; a configuration has options such as 'model:', 'data:', 'trainer:'"
    return None


def _missing(key: str, lines: list[str], parser: Parser) -> str | None:
    """Options or values left out."""
    text = " ".join(lines)
    if found := re.match(r"the following arguments are required: (.*)", text):
        names = [re.sub(r"^(fit|validate|test|predict)\.", "", name) for name in found.group(1).split(", ")]
        prefix = f"{key}." if key else ""
        first, *others = [f"--{prefix}{name.lstrip('-')}" for name in names]
        also = f", and so have {' and '.join(others)}" if others else ""
        hint = "; -c FILE gives them all, `ladic configs` lists the shipped ones" if _subparsers(parser) else ""
        return f"{first}: has to be given{also}{hint}"
    if found := re.match(r"argument (?:-\w/)?(--[\w.]+): expected one argument", text):
        return f"{found.group(1)}: needs a value"
    return None


def _class(key: str, lines: list[str], parser: Parser) -> str | None:
    """A class that isn't there, or is of another kind."""
    patterns = (
        r"Expected a dot import path string: (\S+)",
        r"Problem with given class_path '([^']+)':",
        r"Import path (\S+) does not (?:correspond|implement)",
        r"Expected an instantiatable class, but (\S* ?)is (?:abstract|a protocol)",
    )
    for number, line in enumerate(lines):
        given = next((found.group(1) for pattern in patterns if (found := re.match(pattern, line))), None)
        bases = _bases(key, parser)
        if given is None or not bases:
            continue
        if not given.strip():  # jsonargparse leaves the value out of the parts of a union's complaint
            given = next((found.group(1) for line in lines if (found := re.match(r"Given value: (\S+)", line))), "")
        given = given.strip()
        label = next((kind.label for kind in KINDS if kind.base == class_path(bases[0])), _words(bases[0].__name__))
        names = sorted({name for base in bases for name in registered(base)})
        near = closest(given.rpartition(".")[2], names)
        reason = lines[number + 1] if line.startswith("Problem") and number + 1 < len(lines) else ""
        if given in names:  # it is there, but importing or building it failed
            return _short(f"--{key}={given}: {reason or line}", 300)
        if given.rpartition(".")[2] in {base.__name__ for base in bases} and names:  # its options came without it
            return f"--{key}: choose one of {', '.join(names)} first, e.g. --{key}={names[0]}"
        if near:
            hint = f"did you mean {near}?"
        else:
            hint = f"there are: {', '.join(names)}" if len(names) <= 12 else "give its import path"
        why = f" ({reason})" if reason.startswith("No module named") else ""
        return f"--{key}: no {label} called '{given}'{why}; {hint}"
    return None


def _option(key: str, lines: list[str], parser: Parser) -> str | None:
    """An option that isn't there."""
    patterns = (
        r"unrecognized arguments: (\S+)",
        r"Subcommand '\w+' does not accept option '([^']+)'",
        r"Option '([^']+)' is not accepted",
    )
    typed = next((found.group(1) for pattern in patterns if (found := re.match(pattern, " ".join(lines)))), None)
    if typed is None:
        return None
    if lines[0].startswith("unrecognized") and not typed.startswith("-"):
        return f"'{_short(typed, 60)}': not an option; options look like --model.sampler=DDIMSampler"
    name = typed.partition("=")[0].lstrip("-")
    near = nearest_option(name, option_names(parser))
    hint = f"; did you mean --{near}?" if near else ""
    if not hint:
        names = sorted(option_names(parser))
        hint = f"; accepted are {', '.join(names)}" if len(names) <= 12 else "; `ladic fit --help` lists the options"
    return f"--{name}: no such option{hint}"


def _value(key: str, lines: list[str], parser: Parser) -> str | None:
    """A value of the wrong type."""
    wanted = []
    value = None
    for line in lines:
        if found := re.match(r"Expected an? (<class '[^']+'>|typing\.Literal\[[^]]*\])(?:\. Got value: (.*))?$", line):
            wanted.append(_type_words(found.group(1)))
            value = value if found.group(2) is None else found.group(2)
        if found := re.match(r"Given value: (.*)", line):
            value = found.group(1)
    if not key or not wanted or value is None:
        return None
    *most, last = dict.fromkeys(wanted)
    return f"--{key}={_short(value, 60)}: it takes {', '.join(most) + ' or ' if most else ''}{last}"


# What a parser knows.


def option_names(parser: Parser) -> set[str]:
    """Long options of a parser, and of its subcommands, without hyphens."""
    names = {name[2:] for action in parser._actions for name in action.option_strings if name.startswith("--")}
    for inner in _subparsers(parser):
        names |= option_names(inner)
    return {name for name in names if name.rpartition(".")[2] not in ("help", "print_config")}


def nearest_option(typed: str, accepted: set[str]) -> str | None:
    """The option that was probably meant: the first wrong part of a dotted name is replaced.

    >>> nearest_option("model.imag_encoder.frozen", {"model.image_encoder", "model.seed", "data"})
    'model.image_encoder.frozen'
    >>> nearest_option("modl.x", {"model.image_encoder", "data"})
    'model'
    >>> nearest_option("zebra", {"model.image_encoder", "data"}) is None
    True
    """
    first, _, rest = typed.partition(".")
    below: dict[str, set[str]] = {}
    for name in accepted:
        head, _, tail = name.partition(".")
        below.setdefault(head, set()).update({tail} if tail else ())
    near = first if first in below else closest(first, below)
    if near is None or (near == first and not rest):
        return None
    if not rest:
        return near
    if not below[near]:  # a component: its own parser knows the rest
        return f"{near}.{rest}" if near != first else None
    if rest in below[near]:
        return f"{near}.{rest}"
    deeper = nearest_option(rest, below[near])
    return f"{near}.{deeper}" if deeper else (near if near != first else None)


def registered(base: type, within: str = "") -> list[str]:
    """Short names of the imported, concrete subclasses of a class; of those whose module begins with ``within``."""
    found, stack = set(), [base]
    while stack:
        cls = stack.pop()
        stack += cls.__subclasses__()
        if not inspect.isabstract(cls) and not cls.__name__.startswith("_") and cls.__module__.startswith(within):
            found.add(cls.__name__)
    return sorted(found)


def _bases(key: str, parser: Parser) -> list[type]:
    """Classes whose subclasses the option takes, from its type hint."""
    for candidate in (parser, *_subparsers(parser)):
        for action in candidate._actions:
            if f"--{key}" in action.option_strings and hasattr(action, "_typehint"):
                return list(_classes(action._typehint))
    return []


def _classes(hint: Any) -> Iterator[type]:
    if getattr(hint, "_is_protocol", False):  # a factory: what it makes
        yield from _classes(get_type_hints(hint.__call__).get("return"))
    elif isinstance(hint, type) and hint.__module__ != "builtins":
        yield hint
    else:
        for argument in get_args(hint):
            yield from _classes(argument)


def _subparsers(parser: Parser) -> list[Parser]:
    choices = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
    return [inner for found in choices for inner in found.values() if isinstance(inner, argparse.ArgumentParser)]


# Words.


def _type_words(text: str) -> str:
    literal = re.match(r"typing\.Literal\[(.*)\]", text)
    if literal:
        *most, last = literal.group(1).split(", ")
        return f"{', '.join(most)} or {last}" if most else last
    name = text.removeprefix("<class '").removesuffix("'>").rpartition(".")[2]
    return TYPES.get(name, f"a {name}")


def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def _short(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"
