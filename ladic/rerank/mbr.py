"""Minimum Bayes risk: the candidate that agrees best with all others."""

from __future__ import annotations

import math
from collections import Counter

from ladic.rerank.base import CandidateSelector, Evidence


class MinimumBayesRiskSelector(CandidateSelector):
    """The candidate that agrees best with all others (Kumar & Byrne 2004; "Sampling Criterion" in Table 7).

    Expected utility under the model is the mean utility against its other samples; the utility is sentence BLEU with
    add-one smoothing (Lin & Och 2004). The first of equals wins.

    Args:
        max_order: longest n-gram counted.

    Example:
        >>> MinimumBayesRiskSelector().select([["a dog runs", "a cat", "a dog runs fast"]])
        ['a dog runs']
    """

    def __init__(self, max_order: int = 4) -> None:
        self.max_order = max_order

    def scores(self, candidates: list[list[str]], evidence: Evidence) -> list[list[float]]:
        return [self._utilities(captions) for captions in candidates]

    def _utilities(self, captions: list[str]) -> list[float]:
        words = [caption.split() for caption in captions]
        grams = [self._ngrams(tokens) for tokens in words]
        others = max(1, len(captions) - 1)
        return [
            sum(self._bleu(i, j, words, grams) for j in range(len(captions)) if j != i) / others
            for i in range(len(captions))
        ]

    def _ngrams(self, tokens: list[str]) -> list[Counter[tuple[str, ...]]]:
        orders = range(1, self.max_order + 1)
        return [Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)) for n in orders]

    def _bleu(self, i: int, j: int, words: list[list[str]], grams: list[list[Counter[tuple[str, ...]]]]) -> float:
        if not words[i] or not words[j]:
            return 0.0
        logs = 0.0
        for order, (mine, theirs) in enumerate(zip(grams[i], grams[j], strict=True)):
            smooth = 1 if order else 0
            matched = (mine & theirs).total() + smooth
            if not matched:
                return 0.0
            logs += math.log(matched / (mine.total() + smooth))
        brevity = min(0.0, 1 - len(words[j]) / len(words[i]))
        return math.exp(logs / self.max_order + brevity)
