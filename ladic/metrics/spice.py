"""SPICE as a torchmetrics class; what it calls is in ``functional/spice.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ladic.metrics.caption_metric import CaptionMetric


class SPICEScore(CaptionMetric):
    """SPICE, mean over images, in [0, 1], by the name "SPICE"; NaN where Java, the jar or its models are missing.

    Args:
        java_package: folder of pycocoevalcap, the importable one if None.
        kwargs: for ``torchmetrics.Metric``.
    """

    scorer = "spice"

    def __init__(self, java_package: str | Path | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.java_package = java_package

    def options(self) -> dict[str, Any]:
        return {"java_package": self.java_package}
