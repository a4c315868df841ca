"""Caption metrics with the semantics of the COCO evaluation tools.

``functional/`` holds the formulas, free of torch; ``scoring`` scores a whole set of captions by any of them; the names
below are their torchmetrics classes and the store that gathers captions across processes, imported when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ladic.metrics.bert_score import BERTScore as BERTScore
    from ladic.metrics.bleu import BLEUScore as BLEUScore
    from ladic.metrics.caption_store import CaptionStore as CaptionStore
    from ladic.metrics.cider import CIDErDScore as CIDErDScore
    from ladic.metrics.clip_score import CLIPScore as CLIPScore
    from ladic.metrics.distinct import DistinctN as DistinctN
    from ladic.metrics.length import LengthRatio as LengthRatio
    from ladic.metrics.meteor import METEORScore as METEORScore
    from ladic.metrics.repetition import Repetition as Repetition
    from ladic.metrics.rouge import ROUGELScore as ROUGELScore
    from ladic.metrics.scoring import Scores as Scores
    from ladic.metrics.scoring import score_captions as score_captions
    from ladic.metrics.self_cider import SelfCIDEr as SelfCIDEr
    from ladic.metrics.spice import SPICEScore as SPICEScore

_LAZY = {
    "BERTScore": "bert_score",
    "BLEUScore": "bleu",
    "CIDErDScore": "cider",
    "CLIPScore": "clip_score",
    "CaptionStore": "caption_store",
    "DistinctN": "distinct",
    "LengthRatio": "length",
    "METEORScore": "meteor",
    "ROUGELScore": "rouge",
    "Repetition": "repetition",
    "SPICEScore": "spice",
    "Scores": "scoring",
    "SelfCIDEr": "self_cider",
    "score_captions": "scoring",
}

__all__ = list(_LAZY)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
