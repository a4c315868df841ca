"""Peak memory of a function, in a process of its own (Linux).

``ru_maxrss`` won't do: a child inherits it from the process that starts it.
"""

from __future__ import annotations

import dataclasses
import gc
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Memory:
    """Resident memory of a process in GiB.

    Attributes:
        built: when everything was made: libraries and weights.
        peak: at most while it ran.
    """

    built: float
    peak: float


def peak(function: str, **arguments: Any) -> Memory:
    """Memory of what a function returns, another function without arguments, while that one runs.

    Args:
        function: "module:name".
        arguments: of it, plain values.
    """
    words = [sys.executable, "-m", "benchmarks.peak", function, json.dumps(arguments)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        told = done.stderr.splitlines() or [f"ended with {done.returncode}"]
        why = "killed, probably for lack of memory" if done.returncode == -9 else told[-1]
        raise SystemExit(f"{function} {arguments}: {why}")
    return Memory(**json.loads(done.stdout.splitlines()[-1]))


def main(argv: list[str]) -> None:
    """What the process does: argv is the function's name and its arguments as JSON."""
    module, _, name = argv[0].partition(":")
    run = getattr(importlib.import_module(module), name)(**json.loads(argv[1]))
    gc.collect()
    built = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    run()
    print(json.dumps(dataclasses.asdict(Memory(built, _status("VmHWM")))))


def _status(name: str) -> float:
    """GiB of an entry of ``/proc/self/status``."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    assert found is not None
    return int(found[1]) / 2**20


if __name__ == "__main__":
    main(sys.argv[1:])
