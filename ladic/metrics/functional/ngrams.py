"""Counts of the 1- to n-grams of many captions at once, as sorted integer arrays.

BLEU and CIDEr-D both ask the same thing of captions: how often does each n-gram stand in each caption, and how often
does the reference have those of the candidate. Here n-grams become integers (the id of an n-gram is made from the id
of its first n-1 words and its last word), so that both questions are sorting and searching in NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class NgramCounts:
    """All n-grams of one order n; the four arrays have one entry per (caption, n-gram), sorted by both.

    Attributes:
        caption: index of the caption.
        gram: id of the n-gram in [0, num_grams); ids are in the alphabetical order of the n-grams.
        count: how often it stands there.
        prefix: (num_grams,) id of its first n-1 words in the order below; of the word itself for n = 1.
        suffix: (num_grams,) id of its last word.
    """

    caption: IntArray
    gram: IntArray
    count: IntArray
    prefix: IntArray
    suffix: IntArray

    @property
    def num_grams(self) -> int:
        return len(self.suffix)


@dataclass(frozen=True)
class NgramTable:
    """The n-grams of one candidate per image and of its references.

    Captions are numbered candidates first: caption i is the candidate of image i, the rest are the references of
    image 0, then of image 1, and so on.

    Attributes:
        num_images: I.
        image: (captions,) the image each caption belongs to.
        length: (captions,) number of words.
        words: the vocabulary in alphabetical order; word ids point here.
        orders: counts for n = 1, 2, ... max_n.
    """

    num_images: int
    image: IntArray
    length: IntArray
    words: list[str]
    orders: list[NgramCounts]

    @classmethod
    def build(cls, candidates: Sequence[str], references: Sequence[Sequence[str]], max_n: int = 4) -> NgramTable:
        """Count the n-grams of tokenised captions.

        Args:
            candidates: one tokenised caption per image.
            references: for each image its tokenised references, at least one.
            max_n: the longest n-gram.

        Raises:
            ValueError: when the two have different lengths or an image has no reference.

        Example:
            >>> table = NgramTable.build(["a dog"], [["a dog runs", "dogs"]], max_n=2)
            >>> table.length.tolist(), [table.gram_text(2, g) for g in range(table.orders[1].num_grams)]
            ([2, 3, 1], ['a dog', 'dog runs'])
        """
        check_pairs(candidates, references)
        num_images = len(candidates)
        split = [caption.split() for caption in chain(candidates, chain.from_iterable(references))]
        image = np.concatenate(
            [np.arange(num_images), np.repeat(np.arange(num_images), [len(refs) for refs in references])]
        ).astype(np.int64)
        length = np.fromiter(map(len, split), np.int64, len(split))
        flat = list(chain.from_iterable(split))
        words = sorted(set(flat))
        number = {word: i for i, word in enumerate(words)}
        word = np.fromiter(map(number.__getitem__, flat), np.int64, len(flat))
        caption = np.repeat(np.arange(len(split)), length)

        orders: list[NgramCounts] = []
        gram, start = word, np.arange(len(word))
        prefix = suffix = np.arange(len(words))
        for n in range(1, max_n + 1):
            if n > 1:  # the n-grams are the (n-1)-grams that have one more word after them in the same caption
                inside = np.flatnonzero(start + n - 1 < len(word))
                inside = inside[caption[start[inside] + n - 1] == caption[start[inside]]]
                gram, start = gram[inside], start[inside]
                key = gram * len(words) + word[start + n - 1]
                known, gram = np.unique(key, return_inverse=True)
                prefix, suffix = known // max(len(words), 1), known % max(len(words), 1)
            num_grams = max(len(suffix), 1)
            pair, count = count_sorted(np.sort(caption[start] * num_grams + gram))
            orders.append(NgramCounts(pair // num_grams, pair % num_grams, count, prefix, suffix))
        return cls(num_images, image, length, words, orders)

    @cached_property
    def reference_image(self) -> IntArray:
        """(references,) the image of each reference."""
        return self.image[self.num_images :]

    def split(self, n: int) -> tuple[slice, slice]:
        """Where in the arrays of order n the candidates and the references stand."""
        cut = int(np.searchsorted(self.orders[n - 1].caption, self.num_images))
        return slice(0, cut), slice(cut, None)

    def match(self, n: int) -> tuple[IntArray, IntArray]:
        """Pairs (i, j): entry i of the candidates and entry j of the references have the same image and n-gram.

        Both count from the start of their own slice of ``split(n)``.
        """
        counts = self.orders[n - 1]
        mine, theirs = self.split(n)
        key = counts.caption[mine] * counts.num_grams + counts.gram[mine]
        wanted = self.image[counts.caption[theirs]] * counts.num_grams + counts.gram[theirs]
        if not len(key):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        at = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
        found = np.flatnonzero(key[at] == wanted)
        return at[found], found

    def gram_text(self, n: int, gram: int) -> str:
        """The words of an n-gram."""
        words: list[str] = []
        for order in range(n, 1, -1):
            words.append(self.words[self.orders[order - 1].suffix[gram]])
            gram = int(self.orders[order - 1].prefix[gram])
        return " ".join([*reversed([*words, self.words[gram]])])

    def gram_texts(self, n: int) -> list[str]:
        """The words of all n-grams of order n, by id."""
        texts = self.words
        for order in range(2, n + 1):
            counts = self.orders[order - 1]
            pairs = zip(counts.prefix.tolist(), counts.suffix.tolist(), strict=True)
            texts = [f"{texts[prefix]} {self.words[suffix]}" for prefix, suffix in pairs]
        return texts


def count_sorted(keys: IntArray) -> tuple[IntArray, IntArray]:
    """The different values of sorted keys and how often each is there; faster than ``np.unique`` on large arrays.

    Example:
        >>> [found.tolist() for found in count_sorted(np.array([2, 2, 5, 9, 9, 9]))]
        [[2, 5, 9], [2, 1, 3]]
    """
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.empty(0, np.int64)
    return keys[first], np.diff(np.append(first, len(keys)))


def check_pairs(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    """Raise ValueError unless there is one non-empty list of references for each candidate."""
    if isinstance(candidates, str) or any(isinstance(refs, str) for refs in references):
        raise ValueError("candidates are a list of captions and references a list of lists of captions, not strings")
    if len(candidates) != len(references):
        raise ValueError(f"{len(candidates)} candidates but references for {len(references)} images")
    for i, refs in enumerate(references):
        if not len(refs):
            raise ValueError(f"image number {i} (from 0) has no reference")
