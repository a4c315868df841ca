"""``ladic configs diff A B``: the options in which two configurations differ, side by side.

Nothing is built and torch is not imported: options that a file leaves out are shown with the default that the class
has in its source.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from ladic.catalog import find_components, parameters_of
from ladic.cli.bases import bases_of, read_mapping
from ladic.cli.captioner_choice import names_captioner, with_classes
from ladic.cli.yaml_files import check_configs
from ladic.errors import UsageError

OWNERS = {
    "model": "ladic.captioner.LatentDiffusionCaptioner",
    "model.guidance": "ladic.guidance.ClassifierFreeGuidance",
    "model.lr_schedule": "ladic.optim.WarmupDecay",
    "model.decoder": "ladic.baselines.decoder.DecoderSettings",
}
"""Classes that a configuration doesn't name because there is only one."""

ABSENT = "—"
"""Where an option doesn't exist, or has no default that the source tells."""

Values = dict[str, Any]


def table(one: Path, other: Path, names: tuple[str, str], everything: bool = False) -> str:
    """Lines of option, value there and value here; only those that differ, unless ``everything``."""
    left, right = flatten(load(one)), flatten(load(other))
    signatures = Signatures()
    rows = []
    for key in sorted(left.keys() | right.keys()):
        cells = [_cell(key, side, signatures) for side in (left, right)]
        if everything or cells[0][0] != cells[1][0]:
            rows.append(
                (key, *(f"{_short(value)} (default)" if implied else _short(value) for value, implied in cells))
            )
    if not rows:
        return "no difference"
    rows.insert(0, ("", *names))
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return "\n".join(f"{key:{widths[0]}}  {a:{widths[1]}}  {b}".rstrip() for key, a, b in rows)


def load(*files: Path) -> Values:
    """Configurations on top of each other, each with its bases below it; where a class changes, arguments that the new
    one lacks go.

    Raises:
        UsageError: if one isn't a configuration.
    """
    merged: Values = {}
    for file in files:
        if not file.is_file():
            raise UsageError(f"'{file}': no such configuration; `ladic configs` lists the shipped ones")
        check_configs(["-c", str(file)])
        parts = [read_mapping(part) for part in (*bases_of(file), file)]
        if names_captioner([f"--config={part}" for part in (*bases_of(file), file)]):
            parts = [wrapped or part for wrapped, part in zip(with_classes(parts), parts, strict=True)]
        for part in parts:
            merged = _merge(merged, part)
        merged.pop("base", None)
        if not any(parts):
            raise UsageError(f"'{file}': holds no options; a configuration has 'model:', 'data:' and 'trainer:'")
    return merged


def _merge(below: Values, above: Values) -> Values:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            merged[key] = _merge(old, value)
            changed = value.get("class_path", old.get("class_path")) != old.get("class_path")
            if changed and isinstance(merged[key].get("init_args"), dict):
                known = Signatures().of(str(value["class_path"]))
                fresh = value.get("init_args") or {}
                kept = {name: v for name, v in merged[key]["init_args"].items() if name in fresh or name in known}
                merged[key]["init_args"] = kept
        else:
            merged[key] = value
    return merged


def flatten(values: Any, prefix: str = "") -> Values:
    """Options by the names of their flags: ``model.sampler`` is a class, ``model.sampler.eta`` its argument.

    Example:
        >>> flatten({"model": {"sampler": {"class_path": "DDIMSampler", "init_args": {"eta": 1}}, "seed": 3}})
        {'model.sampler': 'DDIMSampler', 'model.sampler.eta': 1, 'model.seed': 3}
    """
    if isinstance(values, list) and any(isinstance(value, dict) for value in values):
        values = {str(index): value for index, value in enumerate(values)}
    if not isinstance(values, dict) or not values:
        return {prefix: values}
    flat: Values = {}
    for key, value in values.items():
        if key == "class_path":
            flat[prefix] = value
        elif key == "init_args":
            flat |= flatten(value, prefix) if value else {}
        else:
            flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


class Signatures:
    """Constructor arguments and their defaults, by class as a configuration names it."""

    _known: dict[str, Values] | None = None

    def of(self, name: str) -> Values:
        """Arguments of a class, by its short name or its import path; none where its source isn't ours to read."""
        if Signatures._known is None:
            components = find_components()
            Signatures._known = {component.name: _defaults(component.parameters) for component in components}
            Signatures._known |= {path: _defaults(parameters_of(path)) for path in OWNERS.values()}
        return Signatures._known.get(name if name in OWNERS.values() else name.rpartition(".")[2], {})


def _defaults(parameters: Any) -> Values:
    values = {}
    for parameter in parameters:
        try:
            values[parameter.name] = ABSENT if parameter.default is None else ast.literal_eval(parameter.default)
        except (ValueError, SyntaxError):
            values[parameter.name] = ABSENT
    return values


def _cell(key: str, side: Values, signatures: Signatures) -> tuple[Any, bool]:
    """An option's value on one side, and whether it is a default that the file doesn't say."""
    if key in side:
        return side[key], False
    owner, _, name = key.rpartition(".")
    named = side.get(owner)
    known = signatures.of(named if isinstance(named, str) else OWNERS.get(owner, ""))
    value = known.get(name, ABSENT)
    return value, value != ABSENT


def _short(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    text = str(value)
    return text if len(text) <= 48 else text[:47] + "…"
