"""CLIPScore and RefCLIPScore from features (Hessel et al. 2021, arXiv:2104.08718, sections 3 and 3.3).

    CLIPScore(c, v)       = 2.5 max(cos(c, v), 0)
    RefCLIPScore(c, R, v) = harmonic mean of CLIPScore(c, v) and max over r in R of cos(c, r)

The second cosine is neither weighted nor cut off at 0, as in the authors' program.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ladic.metrics.functional.ngrams import FloatArray

WEIGHT = 2.5


def clip_score(images: ArrayLike, captions: ArrayLike) -> FloatArray:
    """(I,) in [0, 2.5] from features (I, D) of images and captions, of any length (they are normalised here).

    Example:
        >>> clip_score([[1.0, 0.0], [1.0, 0.0]], [[2.0, 0.0], [-1.0, 0.0]]).tolist()
        [2.5, 0.0]
    """
    return WEIGHT * np.maximum((_unit(images) * _unit(captions)).sum(-1), 0)


def ref_clip_score(images: ArrayLike, captions: ArrayLike, references: Sequence[ArrayLike]) -> FloatArray:
    """(I,) from features (I, D) of images and captions and, for each image, (R, D) of its references.

    Example:
        >>> ref_clip_score([[1.0, 0.0]], [[1.0, 0.0]], [[[1.0, 0.0], [0.0, 1.0]]]).round(4).tolist()
        [1.4286]
    """
    unit = _unit(captions)
    by_image = clip_score(images, captions)
    by_reference = np.array([(_unit(refs) @ unit[i]).max() for i, refs in enumerate(references)])
    total = by_image + by_reference
    return np.divide(2 * by_image * by_reference, total, out=np.zeros_like(total), where=by_image > 0)


def _unit(features: ArrayLike) -> FloatArray:
    array = np.asarray(features, np.float64)
    return array / np.linalg.norm(array, axis=-1, keepdims=True)
