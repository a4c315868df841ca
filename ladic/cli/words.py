"""A component in one word of the command line: ``BackAndRefine:sampler=RenoiseSampler,sampler.num_steps=20,at=0.6``."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

from ladic.errors import UsageError
from ladic.plugins import KINDS, component_entry_points, load_plugins, unknown

T = TypeVar("T")


def known(kind: str) -> dict[str, str]:
    """Class path of every component of a kind by its name; a stranger's by its class path too."""
    return _known(kind, tuple((point.name, point.value) for point in component_entry_points()))


@lru_cache
def _known(kind: str, points: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """The same as long as the entry points are: reading all sources takes half a second."""
    from ladic.catalog import find_components

    parts = [part for part in find_components() if part.kind == kind]
    return {part.name: part.class_path for part in parts} | {part.class_path: part.class_path for part in parts}


def component(typed: str, kind: str, base: Callable[..., T]) -> T:
    """The component of a word: its name, then ``:argument=value,…``; an argument that is a component is named likewise.

    Args:
        typed: the word.
        kind: as ``ladic components`` calls it.
        base: the kind's base class.

    Raises:
        UsageError: for a name or an argument that isn't one.

    Example:
        >>> from ladic.components import Sampler
        >>> component("BackAndRefine:sampler=DDIMSampler,sampler.eta=0.5", "samplers", Sampler).sampler.eta
        0.5
    """
    from ladic.spec import build

    load_plugins()
    names = known(kind)
    name, _, words = typed.partition(":")
    if name not in names:
        label = next(each.label for each in KINDS if each.name == kind)
        raise unknown(label, name, [each for each in names if "." not in each])
    spec: dict[str, Any] = {"class_path": names[name], "init_args": {}}
    for word in re.split(r",(?![^\[{]*[\]}])", words) if words else []:
        _put(spec, word, typed, names)
    try:
        return build(spec, base)
    except UsageError as error:
        raise UsageError(f"'{typed}': {error}") from error
    except (TypeError, AttributeError) as error:
        reason = re.sub(r"^\w+\.__init__\(\) ", "", str(error))
        raise UsageError(f"'{typed}': {reason}; `ladic components {kind} {name}` shows its arguments") from error


def _put(spec: dict[str, Any], word: str, typed: str, names: dict[str, str]) -> None:
    """Adds ``argument=value`` or ``argument.argument=value`` to a spec."""
    import yaml

    path, equals, text = word.partition("=")
    if not equals:
        raise UsageError(f"'{typed}': '{path}' has no value; write {typed.partition(':')[0]}:argument=value")
    *outer, key = path.split(".")
    for part in outer:
        inner = spec["init_args"].get(part)
        if not isinstance(inner, dict):
            raise UsageError(f"'{typed}': '{path}' comes before '{part}=NAME', which says what {part} is")
        spec = inner
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"'{typed}': '{text}' is no value") from error
    spec["init_args"][key] = {"class_path": names[text], "init_args": {}} if text in names else value
