"""mBLEU (Shetty et al. 2017, "Speaking the Same Language", §4): how alike the captions of one image are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ladic.metrics.functional.bleu import bleu
from ladic.metrics.functional.ngrams import FloatArray


def mbleu(captions: Sequence[Sequence[str]], max_n: int = 4) -> FloatArray:
    """Mean over an image's captions of BLEU-n against its other captions, (I, max_n) in [0, 1]; lower is more varied.

    BLEU is that of the corpus of such comparisons, as Shetty et al. report it, for each image by itself.

    Args:
        captions: for each image m >= 2 tokenised captions; m may differ between images.
        max_n: longest n-gram.

    Raises:
        ValueError: when an image has fewer than two captions.

    Example:
        >>> mbleu([["a dog runs", "a dog runs"], ["two cats sleep", "people eat pizza"]], max_n=1).round(4).tolist()
        [[1.0], [0.0]]
    """
    rows = []
    for i, texts in enumerate(captions):
        if len(texts) < 2:
            raise ValueError(f"image number {i} (from 0) has {len(texts)} captions; their likeness needs two or more")
        others = [[*texts[:j], *texts[j + 1 :]] for j in range(len(texts))]
        rows.append(bleu(list(texts), others, max_n).corpus)
    return np.stack(rows) if rows else np.zeros((0, max_n))
