"""CIDEr-D (Vedantam et al. 2015, arXiv:1411.5726, section 8), vectorised; what everyone calls "CIDEr".

============================  ==========================================================================
paper                         here
============================  ==========================================================================
h_k(s) omega_k                count of an n-gram in a caption
g_k (eq. 1)                   ``weight``: count times log(number of images / images whose references have it)
min(g^n(c), g^n(s)) g^n(s)    ``overlap``: clipped at the reference's weight
exp(-(l(c)-l(s))^2/2 sigma^2) ``penalty``, sigma = 6
10/m sum over references      mean over references times 10
============================  ==========================================================================

Where the tool that COCO publishes departs from the paper the tool counts: no term-frequency normalisation in g (the
norms cancel it), an n-gram that no reference has is treated as one that a single image has, and the length l of a
caption is its number of bigrams.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ladic.json_files import write_whole
from ladic.metrics.functional.mean import mean
from ladic.metrics.functional.ngrams import FloatArray, IntArray, NgramTable, count_sorted

SIGMA = 6.0


@dataclass(frozen=True)
class DocumentFrequencies:
    """In how many images' references each n-gram stands, kept to score few images by the rarity of many.

    Needed for minimum Bayes risk (there are no references) and for subsets: the CIDEr-D of one image by its own
    document frequencies is always 0, since every n-gram stands in "all" images.

    Attributes:
        num_images: how many images were counted.
        counts: "words of the n-gram" -> number of images, at least 1.
    """

    num_images: int
    counts: dict[str, int]

    @classmethod
    def from_references(cls, references: Sequence[Sequence[str]], max_n: int = 4) -> DocumentFrequencies:
        """Count tokenised references, a list of captions per image.

        Example:
            >>> corpus = DocumentFrequencies.from_references([["a dog", "the dog"], ["a cat"]])
            >>> corpus.num_images, corpus.counts["dog"], corpus.counts["a"]
            (2, 1, 2)
        """
        table = NgramTable.build([""] * len(references), references, max_n)
        counts: dict[str, int] = {}
        for n in range(1, max_n + 1):
            counts.update(zip(table.gram_texts(n), _images_with(table, n).tolist(), strict=True))
        return cls(len(references), counts)

    def save(self, path: str | Path) -> None:
        """Write as gzipped JSON, the same bytes for the same counts."""
        text = json.dumps({"num_images": self.num_images, "counts": self.counts}, sort_keys=True, ensure_ascii=False)
        packed = io.BytesIO()
        with gzip.GzipFile("", "wb", fileobj=packed, mtime=0) as file:
            file.write(text.encode())
        write_whole(Path(path), packed.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> DocumentFrequencies:
        """Read what ``save`` wrote.

        Raises:
            ValueError: when the file holds something else.
        """
        try:
            with gzip.open(path) as file:
                stored = json.load(file)
            return cls(int(stored["num_images"]), dict(stored["counts"]))
        except (gzip.BadGzipFile, zlib.error, EOFError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(
                f"{path} holds no document frequencies ({error}); write such a file with DocumentFrequencies.save"
            ) from error


@dataclass(frozen=True)
class CiderResult:
    """``corpus``: mean over images, in [0, 10]; ``per_image`` (I,)."""

    corpus: float
    per_image: FloatArray


def cider_d(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    document_frequencies: DocumentFrequencies | None = None,
    *,
    max_n: int = 4,
    sigma: float = SIGMA,
    ngrams: NgramTable | None = None,
) -> CiderResult:
    """CIDEr-D of tokenised captions.

    Args:
        candidates: one tokenised caption per image (I).
        references: for each image its tokenised references, at least one.
        document_frequencies: of a stored corpus; those of ``references`` if None.
        max_n: the longest n-gram.
        sigma: width of the length penalty in words.
        ngrams: the table of exactly these captions, where the caller has it already.

    Raises:
        ValueError: when the two have different lengths or an image has no reference.

    Example:
        >>> result = cider_d(["a dog runs", "a cat"], [["a dog runs", "dogs"], ["the cat sleeps"]])
        >>> round(result.corpus, 4), [round(float(score), 4) for score in result.per_image]
        (2.3783, [3.75, 1.0065])
    """
    table = ngrams or NgramTable.build(candidates, references, max_n)
    num_images, num_references = table.num_images, len(table.reference_image)
    bigrams = np.maximum(table.length - 1, 0)
    difference = bigrams[table.reference_image] - bigrams[num_images:]
    penalty = np.exp(-(difference**2) / (2 * sigma**2))
    total = np.zeros(num_references)
    for n in range(1, max_n + 1):
        counts = table.orders[n - 1]
        weight = counts.count * idf(table, n, document_frequencies)[counts.gram]
        norm = np.sqrt(np.bincount(counts.caption, weight**2, num_images + num_references))
        mine, theirs = table.split(n)
        i, j = table.match(n)
        overlap = np.minimum(weight[mine][i], weight[theirs][j]) * weight[theirs][j]
        dot = np.bincount(counts.caption[theirs][j] - num_images, overlap, num_references)
        scale = norm[table.reference_image] * norm[num_images:]
        total += np.divide(dot, scale, out=np.zeros(num_references), where=scale != 0) * penalty
    per_reference = total / max_n
    sums = np.bincount(table.reference_image, per_reference, num_images)
    per_image = 10.0 * sums / np.bincount(table.reference_image, minlength=num_images)
    return CiderResult(mean(per_image), per_image)


def idf(table: NgramTable, n: int, document_frequencies: DocumentFrequencies | None = None) -> FloatArray:
    """(num_grams,) log of images over images whose references have the n-gram, for each n-gram of order n."""
    if document_frequencies is None:
        images, frequency = table.num_images, _images_with(table, n).astype(np.float64)
    else:
        images, known = document_frequencies.num_images, document_frequencies.counts
        frequency = np.array([known.get(text, 0) for text in table.gram_texts(n)], np.float64)
    weights = math.log(max(images, 1)) - np.log(np.maximum(frequency, 1.0))
    # numpy's logarithm and math's may differ in the last bit (numpy 1.26): a word of every image would weigh 1e-16, and
    # a caption of such words alone would be as like another as can be.
    return np.where(frequency == images, 0.0, weights)


def _images_with(table: NgramTable, n: int) -> IntArray:
    """(num_grams,) number of images that have the n-gram in at least one reference."""
    counts = table.orders[n - 1]
    theirs = table.split(n)[1]
    pairs, _ = count_sorted(
        np.sort(table.image[counts.caption[theirs]] * max(counts.num_grams, 1) + counts.gram[theirs])
    )
    return np.bincount(pairs % max(counts.num_grams, 1), minlength=counts.num_grams)[: counts.num_grams].astype(
        np.int64
    )
