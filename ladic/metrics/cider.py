"""CIDEr-D as a torchmetrics class; the formula is in ``functional/cider.py``."""

from __future__ import annotations

from typing import Any

from ladic.metrics.caption_metric import CaptionMetric
from ladic.metrics.functional.cider import DocumentFrequencies


class CIDErDScore(CaptionMetric):
    """CIDEr-D, mean over images, in [0, 10], by the name "CIDEr-D".

    Args:
        document_frequencies: of a stored corpus; those of the references seen if None.
        kwargs: for ``torchmetrics.Metric``.

    Example:
        >>> metric = CIDErDScore()
        >>> metric.update(["A dog runs.", "A cat"], [["A dog runs.", "Dogs!"], ["The cat sleeps."]], [1, 2])
        >>> round(metric.compute()["CIDEr-D"].item(), 4)
        2.3783
    """

    scorer = "cider"

    def __init__(self, document_frequencies: DocumentFrequencies | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.document_frequencies = document_frequencies

    def options(self) -> dict[str, Any]:
        return {"document_frequencies": self.document_frequencies}
