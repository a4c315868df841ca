"""The mean of scores over images, whatever the order of the images."""

from __future__ import annotations

import math
from collections.abc import Iterable


def mean(values: Iterable[float]) -> float:
    """The correctly rounded sum divided by the number: the same to the last bit in any order; 0.0 for no value.

    Example:
        >>> mean([0.1, 0.2, 0.3]) == mean([0.3, 0.1, 0.2])
        True
    """
    listed = [float(value) for value in values]
    return math.fsum(listed) / len(listed) if listed else 0.0
