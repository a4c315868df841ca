"""Repetition inside captions: seq-rep-n (Welleck et al. 2020, "Neural text generation with unlikelihood training",
section 6) and words said twice running, which is how non-autoregressive captioners fail."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ladic.metrics.functional.ngrams import FloatArray


def repetition(captions: Sequence[str], n: int) -> FloatArray:
    """1 - different n-grams / n-grams of each tokenised caption, (I,) in [0, 1); 0 where it has no n-gram.

    Example:
        >>> repetition(["a dog and a dog and a dog", "a dog runs"], 2).round(4).tolist()
        [0.5714, 0.0]
    """
    if n < 1:
        raise ValueError(f"n={n}: n-grams have at least one word")
    scores = np.zeros(len(captions))
    for i, caption in enumerate(captions):
        tokens = caption.split()
        grams = list(zip(*(tokens[k:] for k in range(n)), strict=False))
        if grams:
            scores[i] = 1 - len(set(grams)) / len(grams)
    return scores


def stutter(captions: Sequence[str]) -> FloatArray:
    """Share of the words of each tokenised caption that repeat the word before them, (I,) in [0, 1).

    Example:
        >>> stutter(["a a dog runs", "a dog", ""]).tolist()
        [0.25, 0.0, 0.0]
    """
    split = [caption.split() for caption in captions]
    return np.array([sum(a == b for a, b in pairwise(w)) / max(len(w), 1) for w in split], np.float64)
