"""BLEU-1 to BLEU-4 as COCO reports them: Papineni et al. 2002, with the choices of COCO's caption evaluation.

The choices (facts of the tool, Chen et al. 2015, arXiv:1504.00325, and its published scorer): the reference length is
the one closest to the candidate's, the shorter one on a tie; corpus scores come from summed counts; precisions are
``(correct + 1e-15) / (guessed + 1e-9)`` and the length ratio is treated alike, so that zero counts give a score near
zero and no error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ladic.metrics.functional.ngrams import FloatArray, IntArray, NgramTable

TINY = 1e-15
SMALL = 1e-9


@dataclass(frozen=True)
class BleuCounts:
    """What BLEU of any part of the images is made from, one row per image.

    Attributes:
        correct: (I, max_n) clipped matches.
        guessed: (I, max_n) n-grams of the candidate.
        candidate_length: (I,) words.
        reference_length: (I,) words of the reference closest in length.
    """

    correct: IntArray
    guessed: IntArray
    candidate_length: IntArray
    reference_length: IntArray

    def corpus(self, times: IntArray | None = None) -> FloatArray:
        """Corpus BLEU (..., max_n) of a set that has each image so many ``times`` (..., I); once each if None."""
        times = np.ones(len(self.correct), np.int64) if times is None else times
        return _score(
            times @ self.correct, times @ self.guessed, times @ self.candidate_length, times @ self.reference_length
        )


@dataclass(frozen=True)
class BleuResult:
    """Scores in [0, 1]: ``corpus`` (max_n,) for BLEU-1 .. BLEU-max_n and ``per_image`` (I, max_n); and their counts."""

    corpus: FloatArray
    per_image: FloatArray
    counts: BleuCounts


def bleu(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    max_n: int = 4,
    *,
    ngrams: NgramTable | None = None,
) -> BleuResult:
    """BLEU of tokenised captions.

    Args:
        candidates: one tokenised caption per image (I).
        references: for each image its tokenised references, at least one.
        max_n: the longest n-gram.
        ngrams: the table of exactly these captions, where the caller has it already.

    Raises:
        ValueError: when the two have different lengths or an image has no reference.

    Example:
        >>> result = bleu(["a dog runs on grass"], [["a dog runs on sand", "a dog"]])
        >>> [round(float(score), 4) for score in result.corpus]
        [0.8, 0.7746, 0.7368, 0.6687]
    """
    table = ngrams or NgramTable.build(candidates, references, max_n)
    candidate_length = table.length[: table.num_images]
    reference_length = closest_lengths(table)
    correct = np.stack([_clipped_matches(table, n) for n in range(1, max_n + 1)], axis=-1)
    guessed = np.maximum(candidate_length[:, None] - np.arange(max_n), 0)
    counts = BleuCounts(correct, guessed, candidate_length, reference_length)
    return BleuResult(counts.corpus(), _score(correct, guessed, candidate_length, reference_length), counts)


def closest_lengths(table: NgramTable) -> IntArray:
    """(I,) for each image the number of words of the reference closest in length to its candidate.

    Example:
        >>> closest_lengths(NgramTable.build(["a b c"], [["a b", "a b c d"]])).tolist()
        [2]
    """
    if table.num_images == 0:
        return np.empty(0, np.int64)
    length, image = table.length[table.num_images :], table.reference_image
    distance = np.abs(length - table.length[image])
    best = np.lexsort((length, distance, image))  # by image, then distance, then the shorter one
    first = np.searchsorted(image[best], np.arange(table.num_images))
    return length[best][first]


def _clipped_matches(table: NgramTable, n: int) -> IntArray:
    """(I,) matching n-grams, each counted at most as often as the reference that has it most often."""
    counts = table.orders[n - 1]
    mine, theirs = table.split(n)
    i, j = table.match(n)
    ceiling = np.zeros_like(counts.count[mine])
    np.maximum.at(ceiling, i, counts.count[theirs][j])
    matches = np.zeros(table.num_images, np.int64)
    np.add.at(matches, counts.caption[mine], np.minimum(counts.count[mine], ceiling))
    return matches


def _score(correct: IntArray, guessed: IntArray, candidate_length: IntArray, reference_length: IntArray) -> FloatArray:
    """Counts (..., max_n) and lengths (...) to scores (..., max_n)."""
    precision = (correct + TINY) / (guessed + SMALL)
    order = np.arange(1, correct.shape[-1] + 1)
    score = np.cumprod(precision, axis=-1) ** (1.0 / order)
    ratio = (candidate_length + TINY) / (reference_length + SMALL)
    penalty = np.where(ratio < 1, np.exp(1 - 1 / np.minimum(ratio, 1)), 1.0)
    return score * penalty[..., None]
