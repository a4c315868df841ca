"""distinct-n as a torchmetrics class; the formula is in ``functional/distinct.py``."""

from __future__ import annotations

from ladic.metrics.caption_metric import CaptionMetric


class DistinctN(CaptionMetric):
    """How varied the captions of the set are, "distinct-1" to "distinct-3", in [0, 1].

    Example:
        >>> metric = DistinctN()
        >>> metric.update(["a dog runs", "a dog sits"], [["-"], ["-"]], [1, 2])
        >>> metric.compute()["distinct-2"].item()
        0.5
    """

    scorer = "distinct"
