"""Paired bootstrap between two systems on the same images (Koehn 2004, "Statistical significance tests for machine
translation evaluation", section 3).

Images are drawn with replacement, the same ones for both systems, and each draw is scored as a corpus of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ladic.metrics.functional.ngrams import FloatArray, IntArray

CorpusScore = Callable[[IntArray], FloatArray]
"""``score(times (B, I)) -> (B,)``: the corpus scores of B sets that have image i so many times."""


@dataclass(frozen=True)
class Difference:
    """Second system minus first.

    Attributes:
        low, high: the middle 95 % of the draws.
        p_value: two-sided: twice the share of draws on the rarer side of zero, at most 1 and at least 1 / draws.
    """

    low: float
    high: float
    p_value: float


def paired_bootstrap(
    first: CorpusScore, second: CorpusScore, num_images: int, draws: int = 1000, seed: int = 0
) -> Difference:
    """How sure the difference between two systems is.

    Example:
        >>> a, b = np.linspace(0, 1, 200), np.linspace(0.1, 1.1, 200)
        >>> result = paired_bootstrap(mean_of(a), mean_of(b), 200)
        >>> round(result.low, 6), round(result.high, 6), result.p_value
        (0.1, 0.1, 0.001)
    """
    generator = np.random.default_rng(seed)
    differences = []
    for start in range(0, draws, 100):  # a hundred at a time: 5,000 images x 1,000 draws are 40 MB
        count = min(100, draws - start)
        times = generator.multinomial(num_images, np.full(num_images, 1 / num_images), size=count)
        differences.append(second(times) - first(times))
    drawn = np.concatenate(differences)
    low, high = np.percentile(drawn, [2.5, 97.5])
    rarer = min(float(np.mean(drawn <= 0)), float(np.mean(drawn >= 0)))
    return Difference(float(low), float(high), min(1.0, max(2 * rarer, 1 / draws)))


def mean_of(per_image: FloatArray) -> CorpusScore:
    """The corpus score that is a mean over images (I,)."""
    values = np.asarray(per_image, np.float64)
    return lambda times: times @ values / len(values)
