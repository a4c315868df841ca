"""Choosing by what the picture shows: the phrases of a caption, looked for in the image tokens."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn import functional as F

from ladic.errors import UsageError
from ladic.phrases import PhraseDetector, phrases_of
from ladic.rerank.base import CandidateSelector, Evidence


class PhraseSelector(CandidateSelector):
    """The candidate whose phrases the picture has, by a detector on the encoder's tokens.

    The score is the sum over the caption's phrases of log p(phrase | picture) + ``reward``, where a phrase that no
    training caption has counts ``unknown``; a reward above zero prefers captions that say more.

    Args:
        weights: file from ``ladic fit-phrases``.
        reward: added for each phrase.
        unknown: log-probability of a phrase outside the detector's list; rare and ungrammatical ones are.

    Raises:
        UsageError: if there is no such file, or if it was fitted on another encoder.
    """

    def __init__(self, weights: str, reward: float = 0.0, unknown: float = -4.0) -> None:
        self.detector = PhraseDetector.load(Path(weights))
        self.weights, self.reward, self.unknown = weights, reward, unknown

    @torch.no_grad()
    def scores(self, candidates: list[list[str]], evidence: Evidence) -> list[list[float]]:
        tokens = evidence.image_tokens
        if tokens is None:
            raise UsageError("PhraseSelector: needs the picture's tokens; it can't choose among captions alone")
        width = self.detector.linear.in_features
        if tokens.shape[-1] != width:
            raise UsageError(
                f"PhraseSelector.weights='{self.weights}': fitted on image tokens of width {width}, the encoder gives "
                f"{tokens.shape[-1]}; fit it on this encoder with `ladic fit-phrases`"
            )
        detector = self.detector.to(tokens.device)
        with torch.autocast(tokens.device.type, enabled=False):
            present = F.logsigmoid(torch.logsumexp(detector(tokens.float()), dim=1)).cpu()
        return [
            [self._score(caption, row) for caption in captions]
            for captions, row in zip(candidates, present.tolist(), strict=True)
        ]

    def _score(self, caption: str, present: list[float]) -> float:
        index = self.detector.index
        found = phrases_of([caption], self.detector.longest)
        known = (present[index[phrase]] if phrase in index else self.unknown for phrase in found)
        return sum(value + self.reward for value in known)
