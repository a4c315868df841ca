"""Which captioner a command line is about.

A configuration's plain ``model:`` holds the arguments of ``LatentDiffusionCaptioner``, whose flags are then options of
the command. As soon as a class is named, by ``class_path`` in a file or ``--model=NAME``, it may be any captioner's; a
file's plain ``model:`` is then of the class that files before it named. jsonargparse drops arguments that another class
doesn't have, so that a configuration can go on top of another captioner's and keep its encoder.
"""

from __future__ import annotations

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

    words = list(argv)
    models, places = [], []
    for place, file in _files(argv):
        values = read_mapping(file)
        if "model" in values:
            models.append(values)
            places.append(place)
    for place, named in zip(places, with_classes(models), strict=True):
        if named is not None:
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
        model = values.get("model")
        named = _named(model)
        if named is not None or not isinstance(model, dict):
            current = named or current
            found.append(None)
        else:
            arguments = model["init_args"] if set(model) == {"init_args"} else model
            found.append({**values, "model": {"class_path": current, "init_args": arguments}})
    return found


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
