"""No choice: the first candidate."""

from __future__ import annotations

from ladic.rerank.base import CandidateSelector, Evidence


class FirstSelector(CandidateSelector):
    """The first candidate: a single sample, whatever was drawn besides.

    Example:
        >>> FirstSelector().select([["a dog", "a cat"]])
        ['a dog']
    """

    def scores(self, candidates: list[list[str]], evidence: Evidence) -> list[list[float]]:
        return [[float(-place) for place in range(len(captions))] for captions in candidates]
