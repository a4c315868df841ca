"""Repetition inside captions as a torchmetrics class; the formulas are in ``functional/repetition.py``."""

from __future__ import annotations

from ladic.metrics.caption_metric import CaptionMetric


class Repetition(CaptionMetric):
    """Mean over captions of "Repetition-2", "Repetition-4" (seq-rep-n) and "Stutter", in [0, 1); lower is better.

    Example:
        >>> metric = Repetition()
        >>> metric.update(["a a dog", "a dog runs"], [["-"], ["-"]], [1, 2])
        >>> round(metric.compute()["Stutter"].item(), 4)
        0.1667
    """

    scorer = "repetition"
    higher_is_better = False
