"""``python -m benchmarks.newcomer``: the way of a newcomer, from a clone to two encoders compared, timed.

Every command is run as it would be typed, in a fresh clone with an environment of its own; what typing takes is
reckoned at 200 characters a minute. Writes ``benchmarks/results/newcomer.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.pages import commit
from benchmarks.timing import machine

ROOT = Path(__file__).resolve().parents[1]
TYPED_A_MINUTE = 200  # characters; 40 words a minute
SWAP = "--model.image_encoder=CellEncoder --trainer.default_root_dir=runs/cells"
STEPS = [
    ("clone", f"git clone {ROOT} ladic && cd ladic"),
    ("install, train, test, report", "make demo"),
    ("the environment on the path", "source .venv/bin/activate"),
    ("caption a folder of pictures", "ladic caption ../pictures --checkpoint runs/demo"),
    ("install another encoder (a plug-in)", "pip install ./examples/plugin"),
    ("train with it", f"ladic fit -c configs/demo.yaml {SWAP} --trainer.max_steps=800"),
    ("test it", "ladic test -c runs/cells"),
    ("compare the two", "ladic score runs/demo --compare runs/cells"),
]


def main() -> None:
    """Runs the steps in one shell and writes the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--load", default="nothing else ran", help="what else the machine was busy with")
    parser.add_argument("--folder", type=Path, help="where to walk it, empty or new, to keep what it made")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        draw_pictures(folder / "pictures")
        seconds, output = run_steps(folder)
    typed = sum(len(command) + 1 for _, command in STEPS) / TYPED_A_MINUTE
    total = sum(seconds)
    rows = [
        f"| {what} | `{command.replace(str(ROOT), 'REPOSITORY')}` | {spent:.0f} |"
        for (what, command), spent in zip(STEPS, seconds, strict=True)
    ]
    lines = [
        "# A newcomer's way",
        "",
        "`python -m benchmarks.newcomer`: a fresh clone, a fresh environment, every command as typed.",
        "",
        f"- {machine()}; commit {commit()}; {datetime.date.today().isoformat()}; {options.load}",
        "- seed 0; precision, batch, sampler and NFE as in `configs/demo.yaml`; 800 steps for the second encoder",
        "",
        "| | command | seconds |",
        "|---|---|---:|",
        *rows,
        f"| in all | | {total:.0f} |",
        "",
        f"{total / 60:.1f} minutes, and {typed:.1f} of typing at {TYPED_A_MINUTE} characters a minute; the aim is",
        "under 20 with under 2 of typing. What the last command said:",
        "",
        "```text",
        *output.strip().splitlines(),
        "```",
    ]
    page = ROOT / "benchmarks" / "results" / "newcomer.md"
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(page.read_text(encoding="utf-8"))


def run_steps(folder: Path) -> tuple[list[float], str]:
    """Seconds of each step, and what the last one printed; one shell, so that `cd` and `source` last."""
    environment = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")}
    shell = subprocess.Popen(
        ["bash", "--norc"], cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert shell.stdin is not None
    assert shell.stdout is not None
    seconds, printed = [], ""
    for what, command in STEPS:
        started, printed = time.perf_counter(), ""
        print(f"$ {command}", flush=True)
        shell.stdin.write(f"{command}\necho done:$?\n")
        shell.stdin.flush()
        for line in shell.stdout:
            if line.startswith("done:"):
                break
            printed += line
        if line.strip() != "done:0":
            raise SystemExit(f"{what}: `{command}` ended with {line.strip()}\n{printed}")
        seconds.append(time.perf_counter() - started)
        print(f"  {seconds[-1]:.0f} s", flush=True)
    shell.stdin.close()
    shell.wait()
    return seconds, printed


def draw_pictures(folder: Path) -> None:
    """A dozen unseen scenes as files: the newcomer's own pictures."""
    from ladic.datamodules import ShapesDataModule

    folder.mkdir()
    source = ShapesDataModule(num_eval=12).source("test")
    for index in range(len(source)):
        source.image(index).save(folder / f"{index}.png")


if __name__ == "__main__":
    main()
