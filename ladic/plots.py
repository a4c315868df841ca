"""Figures, drawn from what a run wrote."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from ladic.errors import UsageError


def read_curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Every logged number of a run as (step, value), from all ``metrics.csv`` below its folder, oldest first.

    A resumed run has several; where they overlap the later one counts.

    Raises:
        UsageError: if the run logged nothing.
    """
    files = sorted(run.rglob("metrics.csv"), key=lambda file: file.stat().st_mtime)
    if not files:
        raise UsageError(f"'{run}': no metrics.csv in it; give the folder of a run that `ladic fit` wrote")
    curves: dict[str, dict[int, float]] = {}
    for file in files:
        with file.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                for name, value in row.items():
                    if name not in ("step", "epoch") and value:
                        curves.setdefault(name, {})[int(row["step"])] = float(value)
    return {name: sorted(points.items()) for name, points in curves.items()}


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
            scores.plot(*zip(*curves[name], strict=True), label=name, marker=".")
    for axes, title in ((losses, "loss"), (scores, "validation")):
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
