"""``ladic demo``: the whole way on drawn scenes, from text pretraining to a report, in one command.

It runs the commands that a user would type, one after the other, and prints each. A step whose result is already
there is skipped and training goes on from its last checkpoint, so a stopped demo can be started again. What each took,
in all sittings in which it came to its end, stands in ``seconds.json``.
"""

from __future__ import annotations

import importlib
import shlex
import time
from importlib import resources
from pathlib import Path

from ladic.cli.parser import LineParser
from ladic.errors import UsageError


def main(argv: list[str]) -> None:
    """Runs every step and says where the report is."""
    from ladic.json_files import write_json

    parser = LineParser("ladic demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/demo"), help="folder (default %(default)s)")
    parser.add_argument("overrides", nargs="*", help="flags for `ladic fit`, after --")
    options = parser.parse_args(argv)
    started = time.perf_counter()
    timed = options.output / "seconds.json"
    seconds = earlier(timed)
    with resources.as_file(resources.files("ladic.configs") / "demo.yaml") as config:
        for command, results in steps(config, options.output, options.overrides):
            if results and all(result.exists() for result in results):
                print(f"\n$ ladic {shlex.join(command)}\n({results[0]} is there already: skipped)", flush=True)
                continue
            print(f"\n$ ladic {shlex.join(command)}", flush=True)
            begun = time.perf_counter()
            try:
                run(command)
            except UsageError as error:
                if command[0] != "cache-features":
                    raise
                # Of another version or other overrides: the text space beside it is too.
                raise UsageError(f"{error}; of a demo: give another --output, or remove '{options.output}'") from error
            took = time.perf_counter() - begun
            seconds[command[0]] = round(seconds.get(command[0], 0.0) + took, 1)
            write_json(timed, seconds)
    print(f"\nThe report: {(options.output / 'report.html').resolve()}   ({time.perf_counter() - started:.0f} s)")


def earlier(file: Path) -> dict[str, float]:
    """What the steps of earlier sittings took; nothing where that can't be read."""
    from ladic.json_files import parse_json, read_text

    try:
        found = parse_json(read_text(file))
    except (OSError, ValueError):
        return {}
    told = found.items() if isinstance(found, dict) else ()
    return {name: value for name, value in told if isinstance(value, int | float)}


def steps(config: Path, output: Path, overrides: list[str]) -> list[tuple[list[str], tuple[Path, ...]]]:
    """Command lines in order, each with the files that show it was done (none: always run)."""
    from ladic.cli.lightning_cli import parse

    space, text, features = output / "space.safetensors", output / "text", output / "features"
    settings = [
        f"--model.latent_space.model={text}",
        f"--model.latent_space.fitted={space}",
        f"--data.features={features}",
        f"--trainer.default_root_dir={output}",
        *overrides,
    ]
    whole_text = text / "model.safetensors", text / "tokenizer.json"
    use = ["-c", str(config)]
    parse([*use, *overrides])  # a wrong flag is told before minutes of work
    return [
        (["pretrain-text", *use, "--output", str(text), *TEXT, "--", *overrides], whole_text),
        (["fit-space", *use, "--output", str(space), *SPACE, "--", *settings], (space,)),
        (["cache-features", *use, "--output", str(features), *CACHE, "--", *overrides], ()),
        (["fit", *use, *settings, "--ckpt_path=auto"], ()),
        (["test", *use, *settings, f"--ckpt_path={output}"], ()),
        (["report", str(output), *use, "--", *overrides], ()),
    ]


TEXT = ["--steps=250", "--captions=20000", "--batch-size=128", "--length=32"]
SPACE = ["--captions=10000", "--head-steps=200"]
CACHE = ["--splits=train,val,test"]


def run(command: list[str]) -> None:
    """Runs one of our own commands in this process: torch is imported once."""

    from ladic.cli.main import COMMANDS, LIGHTNING

    module = importlib.import_module(f"ladic.cli.{COMMANDS[command[0]].module}")
    if COMMANDS[command[0]].module == LIGHTNING:
        module.run(command)
    else:
        module.main(command[1:])
