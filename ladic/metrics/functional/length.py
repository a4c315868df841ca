"""Length of captions against their references: the ratio and the brevity penalty inside BLEU (Papineni et al. 2002)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ladic.metrics.functional.bleu import closest_lengths
from ladic.metrics.functional.ngrams import FloatArray, NgramTable


@dataclass(frozen=True)
class LengthResult:
    """``ratio``: words of all candidates over words of the references closest in length; ``brevity_penalty``:
    exp(1 - 1/ratio) where that is below 1, else 1; ``mean_length``: words per candidate; ``per_image`` (I,) ratios,
    1.0 for an empty candidate with an empty reference."""

    ratio: float
    brevity_penalty: float
    mean_length: float
    per_image: FloatArray


def length_ratio(
    candidates: Sequence[str], references: Sequence[Sequence[str]], *, ngrams: NgramTable | None = None
) -> LengthResult:
    """Length of tokenised captions against their references.

    Example:
        >>> result = length_ratio(["a dog", "a cat"], [["a dog runs"], ["a cat", "one cat sleeps"]])
        >>> result.ratio, round(result.brevity_penalty, 4), result.mean_length, result.per_image.round(4).tolist()
        (0.8, 0.7788, 2.0, [0.6667, 1.0])
    """
    table = ngrams or NgramTable.build(candidates, references, 1)
    words = table.length[: table.num_images]
    wanted = closest_lengths(table)
    per_image = np.where(wanted > 0, words / np.maximum(wanted, 1), np.where(words > 0, math.inf, 1.0))
    total, target = int(words.sum()), int(wanted.sum())
    ratio = total / target if target else (math.inf if total else 1.0)
    penalty = 0.0 if ratio == 0 else min(1.0, math.exp(1 - 1 / ratio))
    return LengthResult(ratio, penalty, total / max(len(words), 1), per_image)
