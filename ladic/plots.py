"""Figures, drawn from what a run wrote."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ladic.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ladic.components.noise_schedules import NoiseSchedule


def read_curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Every logged number of a run as (step, value), from all ``metrics.csv`` below its folder, oldest first.

    A resumed run has several. What an earlier one has from the first training step of a later one on was lost with a
    kill, and trained again.

    Raises:
        UsageError: if the run logged nothing, or a file of it is damaged.
    """
    files = sorted(run.rglob("metrics.csv"), key=lambda file: file.stat().st_mtime)
    if not files:
        raise UsageError(f"'{run}': no metrics.csv in it; give the folder of a run that `ladic fit` wrote")
    curves: dict[str, dict[int, float]] = {}
    for file in files:
        points = _logged(file)
        # Only of training: a test logs at step 0, and a validation at the step before.
        begins = min((step for step, name, _ in points if name.startswith("train/")), default=math.inf)
        curves = {
            name: {step: value for step, value in curve.items() if step < begins} for name, curve in curves.items()
        }
        for step, name, value in points:
            curves.setdefault(name, {})[step] = value
    return {name: sorted(points.items()) for name, points in curves.items() if points}


def _logged(file: Path) -> list[tuple[int, str, float]]:
    """Step, name and value of every number in a ``metrics.csv``."""
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            return [
                (int(row["step"]), name, float(value))
                for row in csv.DictReader(lines)
                for name, value in row.items()
                if name not in ("step", "epoch") and value
            ]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise UsageError(
            f"'{file}': not numbers that `ladic fit` logged ({error!r}); mend the file or move it away"
        ) from error


def training_figure(curves: dict[str, list[tuple[int, float]]]) -> bytes:
    """PNG of losses (left) and of the validation scores (right) against steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    for name in ("train/latent_loss", "train/caption_loss", "val/latent_loss", "val/caption_loss"):
        if name in curves:
            losses.plot(*zip(*curves[name], strict=True), label=name, linewidth=1, marker="." if "val" in name else "")
    for name in ("val/CIDEr-D", "val/CIDEr-D_shuffled", "val/BLEU-4", "val/wholly_true"):
        if name in curves:
            steps, values = zip(*curves[name], strict=True)
            scores.plot(steps, [100 * value for value in values], label=name, marker=".")
    for axes, title in ((losses, "loss"), (scores, "validation, times 100")):
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=8)
    return _png(figure)


def sweep_figure(curves: Mapping[str, Sequence[Mapping[str, Sequence[tuple[int, float]]]]], metric: str) -> bytes:
    """PNG of a validation score against minutes of training (left) and steps (right).

    Args:
        curves: of each row, a mapping for each of its runs as ``read_curves`` gives it; a row has one colour.
        metric: the score's name without "val/".
    """
    import numpy as np
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    by_time, by_step = figure.subplots(1, 2, sharey=True)
    for number, (row, runs) in enumerate(curves.items()):
        for place, run in enumerate(runs):
            steps, values = zip(*run[f"val/{metric}"], strict=True)
            style: dict[str, Any] = {"color": f"C{number % 10}", "marker": ".", "label": row if place == 0 else None}
            by_step.plot(steps, values, **style)
            if "train/minutes" in run:
                at, minutes = np.array(run["train/minutes"]).T
                by_time.plot(np.interp(np.array(steps), at, minutes), values, **style)
    for axes, label in ((by_time, "minutes of training"), (by_step, "steps")):
        axes.set(xlabel=label)
        axes.grid(alpha=0.3)
    by_time.set(ylabel=f"{metric}, validation")
    by_step.legend(fontsize=8)
    return _png(figure)


def length_figure(captions: Sequence[int], references: Sequence[int]) -> bytes:
    """PNG of the share of captions and of references by their number of words."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(10, 3), layout="constrained")
    axes = figure.subplots()
    longest = max([*captions, *references])
    width = max(1, -(-(longest + 1) // 60))  # paragraphs: several lengths to a bar
    edges = [width * i - 0.5 for i in range(longest // width + 2)]
    for lengths, label, style in (
        (references, "references", {"color": "#c9d1dd"}),
        (captions, "captions", {"histtype": "step", "color": "#1f5fbf", "linewidth": 1.8}),
    ):
        mean = sum(lengths) / len(lengths)
        share = [100 / len(lengths)] * len(lengths)
        axes.hist(lengths, edges, weights=share, label=f"{label} (mean {mean:.1f})", **style)
    axes.set(xlabel="words", ylabel="% of them")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3, axis="y")
    axes.set_axisbelow(True)
    axes.legend(fontsize=8)
    return _png(figure)


def schedule_figure(schedules: Mapping[str, NoiseSchedule]) -> bytes:
    """PNG of alpha_bar and of the log SNR against t, a line for each named schedule."""
    import torch
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    share, ratio = figure.subplots(1, 2)
    t = torch.linspace(0.001, 1, 1000)
    for name, schedule in schedules.items():
        share.plot(t, schedule.alpha_bar(t), label=name)
        ratio.plot(t, schedule.log_snr(t).clamp(-12, 12))
    share.set(title="alpha_bar, the share of signal", xlabel="t", ylim=(0, 1))
    ratio.set(title="log SNR", xlabel="t", ylim=(-12, 12))
    for axes in (share, ratio):
        axes.grid(alpha=0.3)
    share.legend(fontsize=8)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
