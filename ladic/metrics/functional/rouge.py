"""ROUGE-L (Lin 2004) as COCO reports it: an F-measure of the longest common subsequence with beta = 1.2.

COCO takes the best precision and the best recall over the references, each from its own reference, and joins those;
stock ROUGE-L implementations take the best F or average it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ladic.metrics.functional.mean import mean
from ladic.metrics.functional.ngrams import FloatArray, check_pairs

BETA = 1.2


@dataclass(frozen=True)
class RougeResult:
    """``corpus``: mean over images, in [0, 1]; ``per_image`` (I,)."""

    corpus: float
    per_image: FloatArray


def rouge_l(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> RougeResult:
    """ROUGE-L of tokenised captions.

    The empty caption counts as one empty word, so that two empty captions score 1.0, as in COCO's tool.

    Args:
        candidates: one tokenised caption per image (I).
        references: for each image its tokenised references, at least one.

    Raises:
        ValueError: when the two have different lengths or an image has no reference.

    Example:
        >>> round(rouge_l(["a dog runs on grass"], [["a dog on grass", "a cat"]]).corpus, 4)
        0.9071
    """
    check_pairs(candidates, references)
    scores = [
        _f_measure(candidate.split(" "), [reference.split(" ") for reference in refs])
        for candidate, refs in zip(candidates, references, strict=True)
    ]
    per_image = np.array(scores, np.float64)
    return RougeResult(mean(per_image), per_image)


def _f_measure(candidate: list[str], references: list[list[str]]) -> float:
    precision = recall = 0.0
    for reference, common in zip(references, common_lengths(candidate, references), strict=True):
        precision = max(precision, common / len(candidate))
        recall = max(recall, common / len(reference))
    if precision == 0 or recall == 0:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def common_lengths(words: list[str], others: list[list[str]]) -> list[int]:
    """Length of the longest common subsequence of ``words`` with each of ``others``.

    Bit-parallel (Hyyrö 2004, "Bit-parallel LCS-length computation revisited"): bit i of ``row`` is 0 where the
    dynamic programme's row grows at word i, so that one addition of long integers does the work of a whole row.

    Example:
        >>> common_lengths(["a", "b", "c", "d"], [["b", "x", "d"], ["d", "c"]])
        [2, 1]
    """
    place: dict[str, int] = {}
    for i, word in enumerate(words):
        place[word] = place.get(word, 0) | 1 << i
    full = (1 << len(words)) - 1
    lengths = []
    for other in others:
        row = full
        for word in other:
            match = place.get(word)
            if match:
                both = row & match
                row = (row + both) | (row - both)
        lengths.append(len(words) - (row & full).bit_count())
    return lengths
