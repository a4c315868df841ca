"""Length ratio and brevity penalty as a torchmetrics class; the formulas are in ``functional/length.py``."""

from __future__ import annotations

from ladic.metrics.caption_metric import CaptionMetric


class LengthRatio(CaptionMetric):
    """By name: "Length ratio", "Brevity penalty" and "Mean length" of all captions against their references.

    Example:
        >>> metric = LengthRatio()
        >>> metric.update(["a dog"], [["a dog runs", "a big dog runs"]], [1])
        >>> round(metric.compute()["Length ratio"].item(), 4)
        0.6667
    """

    scorer = "length"
    higher_is_better = None
