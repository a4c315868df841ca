"""Which captioner a command line is about.

A configuration's plain ``model:`` holds the arguments of ``LatentDiffusionCaptioner``, whose flags are then options of
the command. As soon as a class is named, by ``class_path`` in a file or ``--model=NAME``, it may be any captioner's; a
file's plain ``model:`` is then of the class that files and words before it named. jsonargparse drops arguments that
another class doesn't have, so that a configuration can go on top of another captioner's and keep its encoder.
"""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

from ladic.cli.bases import read_mapping

DEFAULT = "LatentDiffusionCaptioner"
_FLAGS = ("--model", "--model.class_path")


def names_captioner(argv: list[str]) -> bool:
    """Whether some word or file says which class the model is of."""
    if any(word.partition("=")[0] in _FLAGS for word in argv):
        return True
    return any(_named(read_mapping(file).get("model")) is not None for _, file in _files(argv))


def with_captioner(argv: list[str]) -> list[str]:
    """The same words, with the text of a file instead of its name wherever its ``model:`` has no class.

    Words are read from left to right: a class that ``--model`` names is that of the files behind it too. Of the
    arguments that such a file has for ``LatentDiffusionCaptioner`` those go that the class doesn't take, as they would
    if ``--model`` came behind the file.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder) / "below.yaml"
        ...     _ = file.write_text("model:\\n  seed: 3\\n")
        ...     print(with_captioner(["fit", "-c", str(file)])[2].strip())
        model:
          class_path: LatentDiffusionCaptioner
          init_args:
            seed: 3
    """
    import yaml

    words, current, by_flag = list(argv), DEFAULT, False
    named_by: list[tuple[int, Path | str]] = [*_files(argv), *_flags(argv)]
    for place, given in sorted(named_by, key=lambda found: found[0]):
        if isinstance(given, str):
            current, by_flag = given, True
            continue
        values = read_mapping(given)
        if "model" not in values:
            continue
        named, current = _with_class(values, current)
        if named is None:
            by_flag = by_flag and _named(values["model"]) is None
            continue
        if by_flag:
            _drop_foreign(named["model"])
        text = yaml.safe_dump(named, sort_keys=False, allow_unicode=True)
        flag, equals, _ = words[place].partition("=")
        words[place] = f"{flag}={text}" if equals and flag in ("-c", "--config") else text
    return words


def with_classes(configs: list[dict[str, Any]]) -> list[dict[str, Any] | None]:
    """For each configuration, lowest first, what it is with the model's class in it; None where it names one itself.

    Example:
        >>> below, above = {"model": {"seed": 3}}, {"model": {"class_path": "Other", "init_args": {}}}
        >>> with_classes([below, above])
        [{'model': {'class_path': 'LatentDiffusionCaptioner', 'init_args': {'seed': 3}}}, None]
    """
    current = DEFAULT
    found: list[dict[str, Any] | None] = []
    for values in configs:
        named, current = _with_class(values, current)
        found.append(named)
    return found


def _with_class(values: dict[str, Any], current: str) -> tuple[dict[str, Any] | None, str]:
    """A configuration with the class in it, None where it names one itself, and the class from there on."""
    model = values.get("model")
    named = _named(model)
    if named is not None or not isinstance(model, dict):
        return None, named or current
    arguments = model["init_args"] if set(model) == {"init_args"} else model
    return {**values, "model": {"class_path": current, "init_args": arguments}}, current


def _drop_foreign(model: dict[str, Any]) -> None:
    """Takes out arguments of the diffusion that the model's class doesn't have; the parser tells of any others."""
    from ladic.captioners import Captioner, LatentDiffusionCaptioner

    takes = _parameters(Captioner, model["class_path"].rpartition(".")[2])
    if takes is not None and isinstance(model["init_args"], dict):
        foreign = set(signature(LatentDiffusionCaptioner).parameters) - takes
        model["init_args"] = {name: value for name, value in model["init_args"].items() if name not in foreign}


def _parameters(base: type[Any], name: str) -> set[str] | None:
    """Those of the subclass of this name; None where there is none, or where it takes any."""
    for cls in base.__subclasses__():
        if cls.__name__ == name:
            parameters = signature(cls).parameters
            if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
                return None
            return set(parameters)
        if (found := _parameters(cls, name)) is not None:
            return found
    return None


def _named(model: Any) -> str | None:
    if isinstance(model, str):
        return model
    return str(model["class_path"]) if isinstance(model, dict) and "class_path" in model else None


def _files(argv: list[str]) -> list[tuple[int, Path]]:
    """Configuration files, each with the place of the word that names it."""
    found = []
    for place, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name in ("-c", "--config"):
            if equals:
                found.append((place, Path(value)))
            elif place + 1 < len(argv):
                found.append((place + 1, Path(argv[place + 1])))
    return found


def _flags(argv: list[str]) -> list[tuple[int, str]]:
    """Classes that words name, each with the place of its word."""
    import yaml

    found = []
    for place, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name in _FLAGS:
            text = value if equals else "".join(argv[place + 1 : place + 2])
            try:
                named = _named(yaml.safe_load(text))  # a name, or {"class_path": NAME, ...}
            except yaml.YAMLError:
                continue
            if named is not None:
                found.append((place, named))
    return found
