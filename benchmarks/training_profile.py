"""``python -m benchmarks.training_profile``: where a step of training goes, before and after what made it faster.

Lightning's ``SimpleProfiler`` over ``ladic fit`` of ``configs/study/plus.yaml`` and its prepared files
(``ladic sweep configs/study/flickr8k_study.yaml --only plus``), or of another configuration. "Before" is the same with
Lightning's ``EMAWeightAveraging`` and a frozen text model that reads every caption anew. The two take turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.pages import RESULTS, WORK, conditions, count, publish, table
from ladic.cli.configs_diff import load
from ladic.errors import UsageError

STEP, FORWARD, BACKWARD = "run_training_batch", "training_step", "backward"
PHASES = ("data", "forward", "backward", "clipping and optimiser", "callbacks", "all")


def main(argv: list[str] | None = None) -> None:
    """Measures and writes the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training_profile", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--config", type=Path, default=Path("configs/study/plus.yaml"))
    parser.add_argument("--steps", type=count, default=90, help="of a run")
    parser.add_argument("--rounds", type=count, default=3, help="in turn")
    parser.add_argument("--work", type=Path, default=WORK / "training_profile")
    parser.add_argument("--page", type=Path, default=RESULTS / "training_profile.md")
    parser.add_argument("flags", nargs="*", help="for ladic fit, after --")
    given = parser.parse_args(argv)
    given.work.mkdir(parents=True, exist_ok=True)
    try:
        configs = {"before": before(given.config, given.work), "after": given.config.resolve()}
    except UsageError as error:
        parser.error(f"--config {given.config}: {error}")
    found: dict[str, list[dict[str, float]]] = {name: [] for name in configs}
    for turn in range(given.rounds):
        for name, config in configs.items():
            found[name].append(profiled(config, given.steps, given.work / f"{name}-{turn}", given.flags))
    write(given, {name: median(rounds) for name, rounds in found.items()})


def before(config: Path, folder: Path) -> Path:
    """The configuration without what made it faster, as a file."""
    values: dict[str, Any] = load(config)
    callbacks = values.get("trainer", {}).get("callbacks", [])
    for callback in callbacks:
        if callback["class_path"].endswith("WeightAverage"):
            callback["class_path"] = "lightning.pytorch.callbacks.EMAWeightAveraging"
    space = values["model"].get("init_args", values["model"]).get("latent_space", {})
    space.get("init_args", {}).pop("remember", None)
    file = folder / "before.yaml"
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    return file.resolve()


def profiled(config: Path, steps: int, folder: Path, flags: Sequence[str]) -> dict[str, float]:
    """Seconds of a step by phase."""
    trainer = {
        "default_root_dir": folder, "max_steps": steps, "max_epochs": -1, "limit_val_batches": 0,
        "profiler": "SimpleProfiler", "profiler.dirpath": folder, "profiler.filename": "profile",
    }  # fmt: skip
    words = [sys.executable, "-m", "ladic", "fit", "-c", str(config)]
    words += [f"--trainer.{name}={value}" for name, value in trainer.items()]
    done = subprocess.run([*words, *flags], capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    if done.returncode:
        raise SystemExit(f"ladic fit -c {config}: {(done.stderr.splitlines() or ['failed'])[-1]}")
    (report,) = folder.glob("*profile*.txt")
    return phases(report.read_text(), steps)


def phases(report: str, steps: int) -> dict[str, float]:
    """Seconds of a step by phase, of a report that ``SimpleProfiler`` wrote."""
    totals: dict[str, float] = {}
    for line in report.splitlines():
        action, *numbers = (part.strip() for part in line.strip("| ").split("|"))
        if len(numbers) == 4 and numbers[1].isdigit():
            totals[action] = float(numbers[2])

    def total(*endings: str) -> float:
        return sum(seconds for action, seconds in totals.items() if action.endswith(endings))

    forward, backward = total(f"Strategy.{FORWARD}"), total(f"Strategy.{BACKWARD}")
    callbacks = sum(s for action, s in totals.items() if "[Callback]" in action and ".on_train_batch_" in action)
    data = total("train_dataloader_next")
    seconds = {
        "data": data,
        "forward": forward,
        "backward": backward,
        "clipping and optimiser": total(STEP) - forward - backward,
        "callbacks": callbacks,
        "all": total(STEP) + callbacks + data,
    }
    return {name: value / steps for name, value in seconds.items()}


def median(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of several profiles, phase by phase."""
    return {name: statistics.median(each[name] for each in rounds) for name in PHASES}


def write(given: argparse.Namespace, found: dict[str, dict[str, float]]) -> None:
    """The page."""
    one, other = found["before"], found["after"]
    rows = [
        [name, *(f"{1000 * each[name]:.0f}" for each in (one, other)), f"{one[name] / max(other[name], 1e-9):.2f}"]
        for name in PHASES
    ]
    words = ["python -m benchmarks.training_profile", f"--config {given.config}", f"--steps {given.steps}"]
    command = " ".join([*words, f"--rounds {given.rounds}", *(["--", *given.flags] if given.flags else [])])
    publish(
        given.page,
        [
            "# Where a step of training goes",
            "",
            f"`{command}`",
            "",
            "Before: Lightning's `EMAWeightAveraging`, which averages frozen weights too, and a frozen text model that",
            "reads every caption anew. After: `ladic.callbacks.WeightAverage`, and `remember` of the latent space. By",
            "Lightning's `SimpleProfiler`; means of all steps, the first epoch among them.",
            "",
            conditions(f"{given.steps} steps", f"medians of {given.rounds} runs each, in turn"),
            "",
            *table(["milliseconds a step", "before", "after", "before over after"], rows),
        ],
    )


if __name__ == "__main__":
    main()
