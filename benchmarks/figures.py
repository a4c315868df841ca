"""Plots of measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

Curves = Mapping[str, Sequence[tuple[float, float]]]
"""Points (x, y) by the name of their line."""


def plot(file: Path, panels: Mapping[str, Curves], y: str) -> None:
    """Writes a PNG: panels side by side, each named for what its x axis shows; all axes begin at 0.

    Args:
        file: its name.
        panels: the lines of each by its x axis.
        y: what all of them show.
    """
    figure = Figure(figsize=(max(6.5, 4.2 * len(panels)), 3.8), layout="constrained")
    for axes, (x, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for name, points in curves.items():
            axes.plot(*zip(*points, strict=True), marker=".", label=name)
        axes.set(xlabel=x, ylabel=y, xlim=(0, None), ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
