"""``python -m benchmarks.startup``: seconds from typing a command to its answer, and where those of ``fit --help`` go.

Every command is a fresh process; the baseline is a bare interpreter timed in the same rounds. One of them captions a
picture with the checkpoint of ``ladic demo``, or another.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.pages import RESULTS, conditions, count, publish
from benchmarks.timing import interleaved
from ladic.datamodules.shapes import ShapesSource

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import torch": ["-c", "import torch"],
    "import lightning": ["-c", "import lightning"],
    "ladic --help": ["-m", "ladic", "--help"],
    "ladic components": ["-m", "ladic", "components"],
    "ladic configs": ["-m", "ladic", "configs"],
    "ladic fit --help": ["-m", "ladic", "fit", "--help"],
}
PACKAGES = ("torch", "torchmetrics", "torchvision", "lightning", "transformers", "jsonargparse", "timm", "ladic")


def main(argv: list[str] | None = None) -> None:
    """Writes the medians, and the import time of ``fit --help`` by package."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--checkpoint", type=Path, default=Path("runs/demo"), help="to caption with (default: runs/demo)"
    )
    parser.add_argument("--rounds", type=count, default=5, help="in turn, after one that doesn't count")
    parser.add_argument("--page", type=Path, default=RESULTS / "startup.md")
    given = parser.parse_args(argv)
    if not given.checkpoint.exists():
        parser.error(f"--checkpoint {given.checkpoint}: no such run; first: ladic demo")
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "scene.png"
        ShapesSource("test", 1).image(0).save(picture)
        caption = ["-m", "ladic", "caption", str(picture), "--checkpoint", str(given.checkpoint)]
        commands = {**COMMANDS, f"ladic caption scene.png --checkpoint {given.checkpoint}": caption}
        runs = {name: partial(run, [sys.executable, *words]) for name, words in commands.items()}
        times = interleaved(runs, given.rounds, 1)
    bare = times["python -c pass"]
    lines = [
        "# Start-up",
        "",
        f"`python -m benchmarks.startup`: fresh processes in turn, medians of {given.rounds} after a first round.",
        "",
        conditions(),
        "",
        "| command | seconds | times a bare interpreter |",
        "|---|---:|---:|",
        *(f"| `{name}` | {seconds:.2f} | {seconds / bare:.1f} |" for name, seconds in times.items()),
        "",
        "Where the imports of `ladic fit --help` go (`-X importtime`, which slows them), each module's own seconds",
        "summed by package; what is left of its time is Lightning's parser reading signatures and docstrings:",
        "",
        "| package | seconds |",
        "|---|---:|",
        *(f"| {name} | {seconds:.2f} |" for name, seconds in sorted(imports().items(), key=lambda item: -item[1])),
    ]
    publish(given.page, lines)


def run(command: list[str]) -> str:
    """Standard error of a command, which has to succeed."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stderr


def imports() -> dict[str, float]:
    """Seconds of ``-X importtime``, each module's own, summed by top-level package."""
    lines = run([sys.executable, "-X", "importtime", "-m", "ladic", "fit", "--help"]).splitlines()
    sums = dict.fromkeys((*PACKAGES, "others"), 0.0)
    for line in lines:
        if line.startswith("import time:") and "self" not in line:
            own, _, module = line.removeprefix("import time:").split("|")
            package = module.strip().split(".")[0]
            sums[package if package in PACKAGES else "others"] += int(own) / 1e6
    return sums


if __name__ == "__main__":
    main()
