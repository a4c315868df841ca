"""How much the captions of one image differ, by every measure that is in use."""

from __future__ import annotations

from collections.abc import Sequence

from ladic.metrics.functional.cider import DocumentFrequencies
from ladic.metrics.functional.distinct import distinct_n
from ladic.metrics.functional.mbleu import mbleu
from ladic.metrics.functional.self_cider import self_cider


def diversity(captions: Sequence[str], frequencies: DocumentFrequencies | None = None) -> dict[str, float | None]:
    """distinct-1 and -2 and self-CIDEr (more is more varied), mBLEU-4 (less is), each in [0, 1].

    Args:
        captions: two or more tokenised captions of one image.
        frequencies: of n-grams in training captions. self-CIDEr is None without: by the image's own captions every
            n-gram stands in every image and weighs nothing.

    Example:
        >>> diversity(["a dog runs", "a dog runs"])["distinct-1"]
        0.5
    """
    return {
        "distinct-1": distinct_n(captions, 1),
        "distinct-2": distinct_n(captions, 2),
        "mBLEU-4": float(mbleu([captions])[0, -1]),
        "self-CIDEr": None if frequencies is None else float(self_cider([captions], frequencies)[0]),
    }
