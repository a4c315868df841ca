"""Self-CIDEr (Wang and Chan 2019, "Describing like humans", section 4): how varied several captions of one image are.

The captions of an image are compared with each other by CIDEr (not CIDEr-D: no clipping, no length penalty), which
makes a kernel matrix K (m, m) with ones on the diagonal. With its eigenvalues lambda the score is

    -log_m( sqrt(lambda_max) / sum sqrt(lambda) )

which is 0 when all captions say the same and 1 when they share no n-gram.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ladic.metrics.functional.cider import DocumentFrequencies, idf
from ladic.metrics.functional.ngrams import FloatArray, NgramTable


def self_cider(
    captions: Sequence[Sequence[str]],
    document_frequencies: DocumentFrequencies | None = None,
    max_n: int = 4,
) -> FloatArray:
    """Diversity of each image's captions, (I,) in [0, 1].

    Args:
        captions: for each image m >= 2 tokenised captions; m may differ between images.
        document_frequencies: which n-grams are rare; of these captions themselves, an image being a document, if None.
        max_n: the longest n-gram.

    Raises:
        ValueError: when an image has fewer than two captions.

    Example:
        >>> sets = [["a dog runs", "a dog runs"], ["two cats sleep", "people eat pizza"]]
        >>> [round(float(score), 4) for score in self_cider(sets)]
        [0.0, 1.0]
    """
    for i, texts in enumerate(captions):
        if len(texts) < 2:
            raise ValueError(f"image number {i} (from 0) has {len(texts)} captions; their diversity needs two or more")
    table = NgramTable.build([""] * len(captions), captions, max_n)
    kernels = [np.zeros((len(texts), len(texts))) for texts in captions]
    start = np.concatenate([[0], np.cumsum([len(texts) for texts in captions])])
    for n in range(1, max_n + 1):
        counts = table.orders[n - 1]
        weight = counts.count * idf(table, n, document_frequencies)[counts.gram]
        caption = counts.caption - table.num_images
        edges = np.searchsorted(caption, start)
        for i, kernel in enumerate(kernels):
            part = slice(edges[i], edges[i + 1])
            grams, column = np.unique(counts.gram[part], return_inverse=True)
            vectors = np.zeros((len(kernel), len(grams)))
            vectors[caption[part] - start[i], column] = weight[part]
            norm = np.linalg.norm(vectors, axis=1, keepdims=True)
            unit = np.divide(vectors, norm, out=np.zeros_like(vectors), where=norm > 0)
            kernel += unit @ unit.T / max_n
    return np.array([_diversity(kernel, list(texts)) for kernel, texts in zip(kernels, captions, strict=True)])


def _diversity(kernel: FloatArray, texts: list[str]) -> float:
    # A caption with no n-gram of some order, or only n-grams of no weight, still is like itself and its copies.
    same = np.array([[a == b for b in texts] for a in texts])
    kernel = np.where(same, 1.0, kernel)
    root = np.sqrt(np.clip(np.linalg.eigvalsh(kernel), 0, None))
    return float(max(0.0, -math.log(root.max() / root.sum(), len(texts))))
