"""Minimum Bayes risk: the candidate that agrees best with all others."""

from __future__ import annotations

from ladic.rerank.base import CandidateSelector, Evidence
from ladic.rerank.utilities import BleuUtility, Utility


class MinimumBayesRiskSelector(CandidateSelector):
    """The candidate that agrees best with all others (Kumar & Byrne 2004; "Sampling Criterion" in Table 7).

    Expected utility under the model is the mean utility against its other samples. The first of equals wins.

    Args:
        max_order: longest n-gram of BLEU, where that is the utility.
        utility: how two captions are compared; smoothed sentence BLEU if not given.

    Example:
        >>> MinimumBayesRiskSelector().select([["a dog runs", "a cat", "a dog runs fast"]])
        ['a dog runs']
    """

    def __init__(self, max_order: int = 4, utility: Utility | None = None) -> None:
        self.max_order = max_order
        self.utility = utility or BleuUtility(max_order)

    def scores(self, candidates: list[list[str]], evidence: Evidence) -> list[list[float]]:
        return [self._expected(captions) for captions in candidates]

    def _expected(self, captions: list[str]) -> list[float]:
        others = max(1, len(captions) - 1)
        return [
            sum(value for j, value in enumerate(row) if j != i) / others
            for i, row in enumerate(self.utility.pairwise(captions))
        ]
