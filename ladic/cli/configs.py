"""``ladic configs``: the shipped YAML files, listed, printed, located or compared.

An installed package has no checkout to look into, so ``ladic fit -c $(ladic configs path NAME)`` is how it uses them.
"""

from __future__ import annotations

import json
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from ladic.cli.parser import LineParser
from ladic.plugins import unknown


def main(argv: list[str]) -> int:
    """Runs ``ladic configs [show NAME | path NAME | diff A B]``."""
    parser = LineParser(prog="ladic configs", description="List, print, locate or compare configurations.")
    parser.add_argument("action", nargs="?", choices=["list", "show", "path", "diff"], default="list")
    parser.add_argument("name", nargs="?", help="a configuration, as `ladic configs` names it; for diff also a file")
    parser.add_argument("other", nargs="?", help="for diff, the configuration beside it")
    parser.add_argument("--json", action="store_true", help="list as JSON")
    parser.add_argument("--all", action="store_true", help="for diff: options that agree, too")
    args = parser.parse_args(argv)
    configs = find_configs()
    if args.action == "list":
        if args.name is not None:
            parser.error(f"'list' takes no name; `ladic configs show {args.name}` prints one")
        _print_list(configs, args.json)
        return 0
    if args.name is None:
        parser.error(f"'{args.action}' needs a name: `ladic configs` lists them")
    if args.action == "diff":
        if args.other is None:
            parser.error("'diff' needs two names: `ladic configs diff A B`")
        from ladic.cli.configs_diff import table

        files = [_locate(name, configs) for name in (args.name, args.other)]
        print(table(files[0], files[1], (args.name, args.other), args.all))
        return 0
    if args.other is not None:
        parser.error(f"'{args.action}' takes one name, and here are two: {args.name} and {args.other}")
    name = args.name.removesuffix(".yaml").removeprefix("configs/")
    if name not in configs:
        raise unknown("configuration", args.name, configs)
    print(configs[name].read_text("utf-8") if args.action == "show" else configs[name], end="")
    if args.action == "path":
        print()
    return 0


def _locate(name: str, configs: dict[str, Traversable]) -> Path:
    """A configuration by its name, or any YAML file by its path."""
    short = name.removesuffix(".yaml").removeprefix("configs/")
    if short in configs:
        return Path(str(configs[short]))
    if Path(name).is_file():
        return Path(name)
    raise unknown("configuration", name, configs)


def find_configs() -> dict[str, Traversable]:
    """The shipped YAML files by name: path below ``ladic.configs``, without its suffix."""
    return dict(sorted(_walk(files("ladic.configs"), "")))


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, Traversable]]:
    found = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _walk(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".yaml"):
            found.append((prefix + entry.name.removesuffix(".yaml"), entry))
    return found


def _summary(config: Traversable) -> str:
    """The first comment line."""
    lines = (line.strip() for line in config.read_text("utf-8").splitlines())
    return next((line.lstrip("# ") for line in lines if line.startswith("#") and line.strip("# ")), "")


def _print_list(configs: dict[str, Traversable], as_json: bool) -> None:
    if as_json:
        rows = [{"name": name, "summary": _summary(config), "file": str(config)} for name, config in configs.items()]
        print(json.dumps(rows, indent=2))
        return
    width = max(map(len, configs), default=0)
    for name, config in configs.items():
        print(f"{name:{width}}  {_summary(config)}".rstrip())
    print(
        "\nUse one:      ladic fit -c $(ladic configs path NAME)\nRead one:     ladic configs show NAME\n"
        "Compare two:  ladic configs diff NAME NAME"
    )
