"""How far raters agree: Krippendorff's alpha, and correlations between pairs of raters.

Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability": alpha = 1 - D_o / D_e, the disagreement within units
over that between any two ratings; 1 is perfect agreement, 0 is chance.
"""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np

from ladic.metrics.functional.ngrams import FloatArray


def krippendorff_alpha(ratings: FloatArray, level: Literal["nominal", "interval"] = "interval") -> float:
    """Alpha of ratings (raters, units); NaN marks what was not rated.

    Args:
        ratings: numbers or, for "nominal", codes.
        level: the distance between two ratings: 1 where they differ, or the squared difference.

    Returns:
        At most 1; NaN where no unit has two ratings; 1 where all ratings are the same.

    Example:
        >>> krippendorff_alpha(np.array([[1, 2, 3, 3.0], [1, 2, 3, 4.0]]))
        0.88...
    """
    counts = (~np.isnan(ratings)).sum(0)
    pairable = ratings[:, counts >= 2]
    counts = counts[counts >= 2]
    values = pairable[~np.isnan(pairable)]
    if not len(values):
        return float("nan")
    within = sum(
        _distances(column[~np.isnan(column)], level) / (count - 1)
        for column, count in zip(pairable.T, counts, strict=True)
    )
    between = _distances(values, level) / (len(values) - 1)
    return 1.0 if between == 0 else float(1 - within / between)


def pair_correlations(ratings: FloatArray) -> list[float]:
    """Pearson's correlation of every pair of raters (raters, units) over the units that both rated.

    Pairs with fewer than two common units, or with a rater who gave them all the same, have none and are left out.

    Example:
        >>> pair_correlations(np.array([[1, 2, 3.0], [2, 4, 6.0]]))
        [1.0]
    """
    found = []
    for first, second in itertools.combinations(ratings, 2):
        both = ~np.isnan(first) & ~np.isnan(second)
        a, b = first[both], second[both]
        if len(a) >= 2 and a.std() > 0 and b.std() > 0:
            found.append(round(float(np.corrcoef(a, b)[0, 1]), 12))
    return found


def _distances(values: FloatArray, level: str) -> float:
    """Sum of the distances over ordered pairs."""
    if level == "nominal":
        _, counts = np.unique(values, return_counts=True)
        return float(len(values) ** 2 - (counts**2).sum())
    return float(2 * (len(values) * (values**2).sum() - values.sum() ** 2))
