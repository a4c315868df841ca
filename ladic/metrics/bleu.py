"""BLEU-1 to BLEU-4 as a torchmetrics class; the formula is in ``functional/bleu.py``."""

from __future__ import annotations

from ladic.metrics.caption_metric import CaptionMetric


class BLEUScore(CaptionMetric):
    """COCO's BLEU of all captions, in [0, 1], by the names "BLEU-1" to "BLEU-4".

    Example:
        >>> metric = BLEUScore()
        >>> metric.update(["A dog runs."], [["A dog runs on grass.", "A dog runs!"]], [1])
        >>> round(metric.compute()["BLEU-3"].item(), 4)
        1.0
    """

    scorer = "bleu"
