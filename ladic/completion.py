"""What may stand next on a command line, read from source so that the answer takes a tenth of a second.

Subcommands come from the table of ``ladic.cli.main``, their options from the ``add_argument`` calls of their modules,
the model's from its constructor, components from ``ladic.catalog``.
"""

from __future__ import annotations

import ast
import importlib.util
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from ladic.catalog import Component, find_components
from ladic.plugins import KINDS

LIGHTNING_OPTIONS = ("-c", "--config", "--ckpt_path", "--print_config", "--seed_everything", "--help")


def complete(line: str, commands: Mapping[str, str]) -> list[str]:
    """Candidates for the last word of a line, whole words each; none where file names are wanted.

    Args:
        line: from "ladic" to the cursor.
        commands: subcommand -> module in ``ladic.cli``.

    Example:
        >>> complete("ladic comp", {"components": "components", "caption": "caption"})
        ['components']
        >>> complete("ladic components samplers DDI", {"components": "components"})
        ['DDIMSampler']
    """
    words = _split(line)[1:]
    if not words:
        return []
    current = words[-1]
    if len(words) == 1:
        found: list[str] = [*commands, "--help", "--version"]
    elif words[0] not in commands or words[-2] in ("-c", "--config", "--output", "--checkpoint", "--ckpt_path"):
        found = []
    elif words[0] == "components":
        found = _component_words(words[1:])
    elif words[0] == "configs":
        found = _config_words(words[1:])
    elif commands[words[0]] == "lightning_cli":
        found = list(_fit_words(words[1:]))
    else:
        found = [*options_of(commands[words[0]]), "--help"] if current.startswith("-") else []
    return sorted({word for word in found if word.startswith(current)})


def options_of(module: str) -> list[str]:
    """Long options that a module of ``ladic.cli`` adds to its parser, itself or by a function ``add_…`` of another."""
    folder = Path(__file__).parent / "cli"
    tree = ast.parse((folder / f"{module}.py").read_bytes())
    bodies: list[ast.AST] = [tree]
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("ladic.cli."):
            continue
        names = {alias.name for alias in node.names if alias.name.startswith("add_")}
        if names:
            shared = ast.parse((folder / f"{str(node.module).rpartition('.')[2]}.py").read_bytes())
            bodies += [part for part in shared.body if isinstance(part, ast.FunctionDef) and part.name in names]
    calls = (node for body in bodies for node in ast.walk(body) if isinstance(node, ast.Call))
    texts = (a.value for call in calls if _adds(call) for a in call.args if isinstance(a, ast.Constant))
    return sorted({text for text in texts if isinstance(text, str) and text.startswith("--")})


def model_options() -> list[str]:
    """``--model.NAME`` for every argument of the captioner, and for the guidance's."""
    here = Path(__file__).parent
    names = [f"--model.{name}" for name in _arguments(here / "captioner.py", "LatentDiffusionCaptioner")]
    guidance = ast.parse((here / "guidance.py").read_bytes())
    fields = next(n for n in guidance.body if isinstance(n, ast.ClassDef) and n.name == "ClassifierFreeGuidance").body
    return names + [
        f"--model.guidance.{field.target.id}"
        for field in fields
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    ]


def trainer_options() -> list[str]:
    """``--trainer.NAME`` for every argument of Lightning's trainer, which is not imported."""
    spec = importlib.util.find_spec("lightning")
    if spec is None or spec.origin is None:
        return []
    file = Path(spec.origin).parent / "pytorch" / "trainer" / "trainer.py"
    return [f"--trainer.{name}" for name in _arguments(file, "Trainer")] if file.is_file() else []


def _fit_words(words: list[str]) -> Iterator[str]:
    """Options of fit and its like; after "=", the components of a kind."""
    components = find_components()
    chosen = {name: value for name, equals, value in (word.partition("=") for word in words[:-1]) if equals}
    for kind in KINDS:
        of_kind = [component for component in components if component.kind == kind.name]
        yield from (f"{kind.flag}={component.name}" for component in of_kind)
        named = [c for c in of_kind if c.name == chosen.get(kind.flag)] or of_kind
        yield from _parameters(kind.flag, named)
    if "=" in words[-1]:
        return
    flags = {kind.flag for kind in KINDS}
    yield from (option for option in [*model_options(), *trainer_options(), *LIGHTNING_OPTIONS] if option not in flags)
    yield from options_of("bad_days")
    yield from options_of("lightning_cli")


def _parameters(flag: str, components: list[Component]) -> Iterator[str]:
    for component in components:
        yield from (f"{flag}.{parameter.name}=" for parameter in component.parameters)


def _component_words(words: list[str]) -> list[str]:
    if len(words) == 1:
        return [*(kind.name for kind in KINDS), "--json"]
    return [*(c.name for c in find_components() if c.kind == words[0]), "--json"] if len(words) == 2 else ["--json"]


def _config_words(words: list[str]) -> list[str]:
    from ladic.cli.configs import find_configs

    if len(words) == 1:
        return ["list", "show", "path", "--json"]
    return list(find_configs())


def _adds(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return name in ("add_argument", "add")


def _arguments(file: Path, cls: str) -> list[str]:
    """Names of a class's constructor arguments, from source."""
    tree = ast.parse(file.read_bytes())
    node = next(n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == cls)
    init = next(n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__")
    return [argument.arg for argument in (*init.args.args[1:], *init.args.kwonlyargs)]


def _split(line: str) -> list[str]:
    """Words as a shell sees them; the last is "" after a space."""
    try:
        words = shlex.split(line)
    except ValueError:  # a quote that is still open
        words = line.split()
    return [*words, ""] if not line or line[-1].isspace() else words
