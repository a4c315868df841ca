"""BLEU by the length of captions (the LaDiC paper's Figure 2b): does a system lose on long captions?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ladic.metrics.functional.bleu import bleu
from ladic.metrics.functional.ngrams import NgramTable

EDGES = (9, 11, 13, 15, 18)


class LengthBin(NamedTuple):
    """Images whose captions have ``low`` to ``high`` words (None: or more), and their corpus BLEU-1 to BLEU-4."""

    low: int
    high: int | None
    images: int
    bleu: tuple[float, ...]

    @property
    def label(self) -> str:
        if self.high is None:
            return f"{self.low}+"
        return str(self.low) if self.low == self.high else f"{self.low}-{self.high}"


def bleu_by_length(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    edges: Sequence[int] = EDGES,
    *,
    by: str = "reference",
) -> list[LengthBin]:
    """Corpus BLEU of the images in each range of lengths; a range without images is left out.

    Args:
        candidates: one tokenised caption per image (I).
        references: for each image its tokenised references.
        edges: the first length of each range but the first, increasing.
        by: "reference", the mean length of an image's references, rounded, the same ranges for any system; or
            "candidate".

    Example:
        >>> bins = bleu_by_length(["a dog", "a cat on a mat"], [["a dog runs"], ["a cat on a mat"]], edges=[4])
        >>> [(each.label, each.images, round(each.bleu[0], 4)) for each in bins]
        [('0-3', 1, 0.6065), ('4+', 1, 1.0)]
    """
    if list(edges) != sorted(set(edges)) or by not in ("reference", "candidate"):
        raise ValueError(f"edges={list(edges)} must increase and by='{by}' be 'reference' or 'candidate'")
    table = NgramTable.build(candidates, references)
    images = table.num_images
    length = table.length[:images].astype(np.float64)
    if by == "reference":
        total = np.bincount(table.reference_image, table.length[images:], images)
        length = np.rint(total / np.bincount(table.reference_image, minlength=images))
    counts = bleu(candidates, references, ngrams=table).counts
    place = np.searchsorted(np.asarray(edges), length, side="right")
    bins = []
    for i, low in enumerate([0, *edges]):
        inside = (place == i).astype(np.int64)
        if inside.any():
            high = edges[i] - 1 if i < len(edges) else None
            scores = tuple(float(score) for score in counts.corpus(inside))
            bins.append(LengthBin(low, high, int(inside.sum()), scores))
    return bins
