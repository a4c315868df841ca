"""BERTScore from token embeddings (Zhang et al. 2020, arXiv:1904.09675, section 3), as COCO users report it.

    R = mean over reference tokens of the best cosine with a candidate token,   P = the other way round,
    F = 2 P R / (P + R)

without idf weights and without rescaling. As in the authors' program, the tokens that open and close a sentence can be
the best match of a word but aren't averaged over, and with several references the best P, the best R and the best F
are taken, each by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ladic.metrics.functional.ngrams import FloatArray


def bert_score(candidate: FloatArray, references: Sequence[FloatArray]) -> tuple[float, float, float]:
    """(P, R, F) of one caption.

    Args:
        candidate: (T, D) embeddings, the opening and the closing token included.
        references: for each reference (S, D), likewise.

    Example:
        >>> opening, closing, dog, cat = np.eye(4)
        >>> bert_score(np.stack([opening, dog, closing]), [np.stack([opening, dog, cat, closing])])
        (1.0, 0.5, 0.6666666666666666)
    """
    best = np.array([_pair(candidate, reference) for reference in references]).max(0)
    return float(best[0]), float(best[1]), float(best[2])


def _pair(candidate: FloatArray, reference: FloatArray) -> tuple[float, float, float]:
    if len(candidate) <= 2 or len(reference) <= 2:  # no word between the opening and the closing token
        return 0.0, 0.0, 0.0
    similarity = _unit(candidate) @ _unit(reference).T
    precision = float(similarity.max(1)[1:-1].mean())
    recall = float(similarity.max(0)[1:-1].mean())
    total = precision + recall
    return precision, recall, 2 * precision * recall / total if total else 0.0


def _unit(embeddings: FloatArray) -> FloatArray:
    return embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True)
