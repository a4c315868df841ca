"""``python -m benchmarks.startup``: seconds from typing a command to its answer, and where those of ``fit --help`` go.

Every command is a fresh process; the baseline is a bare interpreter timed in the same rounds.
"""

from __future__ import annotations

import subprocess
import sys

from benchmarks.timing import interleaved, machine

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
    """Prints the medians, then the import time of ``fit --help`` by package."""
    commands = {name: [sys.executable, *words] for name, words in COMMANDS.items()}
    times = interleaved({name: lambda command=command: run(command) for name, command in commands.items()}, 5, 1)
    print(machine())
    bare = times["python -c pass"]
    for name, seconds in times.items():
        print(f"{name:20} {seconds:6.2f} s   {seconds / bare:6.1f} times a bare interpreter")
    print("\nimports of `ladic fit --help`, seconds spent in the modules of each package:")
    for name, seconds in sorted(imports().items(), key=lambda item: -item[1]):
        print(f"  {name:14} {seconds:5.2f}")


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
