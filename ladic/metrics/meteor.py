"""METEOR as a torchmetrics class; what it calls is in ``functional/meteor.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ladic.metrics.caption_metric import CaptionMetric


class METEORScore(CaptionMetric):
    """METEOR 1.5 of all captions, in [0, 1], by the name "METEOR"; NaN where Java or the jar is missing.

    Args:
        java_package: folder of pycocoevalcap, the importable one if None.
        kwargs: for ``torchmetrics.Metric``.
    """

    scorer = "meteor"

    def __init__(self, java_package: str | Path | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.java_package = java_package

    def options(self) -> dict[str, Any]:
        return {"java_package": self.java_package}
