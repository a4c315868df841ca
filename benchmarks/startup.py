"""``python -m benchmarks.startup``: seconds from typing a command to its answer, and where those of ``fit --help`` go.

Every command is a fresh process; the baseline is a bare interpreter timed in the same rounds.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

from benchmarks.pages import conditions
from benchmarks.timing import interleaved

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


def main() -> None:
    """Writes the medians, and the import time of ``fit --help`` by package, to ``benchmarks/results/startup.md``."""
    commands = {name: [sys.executable, *words] for name, words in COMMANDS.items()}
    times = interleaved({name: partial(run, command) for name, command in commands.items()}, 5, 1)
    bare = times["python -c pass"]
    lines = [
        "# Start-up",
        "",
        "`python -m benchmarks.startup`: fresh processes in turn, medians of 5 after a first round.",
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
    page = Path(__file__).parent / "results" / "startup.md"
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(page.read_text(encoding="utf-8"))


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
