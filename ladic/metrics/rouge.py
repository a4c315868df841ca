"""ROUGE-L as a torchmetrics class; the formula is in ``functional/rouge.py``."""

from __future__ import annotations

from ladic.metrics.caption_metric import CaptionMetric


class ROUGELScore(CaptionMetric):
    """COCO's ROUGE-L, mean over images, in [0, 1], by the name "ROUGE-L".

    Example:
        >>> metric = ROUGELScore()
        >>> metric.update(["A dog runs."], [["A dog runs on grass.", "Dogs run!"]], [1])
        >>> round(metric.compute()["ROUGE-L"].item(), 4)
        0.7176
    """

    scorer = "rouge"
