"""Choosing by what the picture shows: the phrases of a caption, looked for in the image tokens."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch.nn import functional as F

from ladic.errors import UsageError
from ladic.phrases import PhraseDetector, phrases_of
from ladic.rerank.base import CandidateSelector, Evidence
from ladic.rerank.mbr import MinimumBayesRiskSelector

log = logging.getLogger(__name__)

SHIPPED = Path(__file__).parent / "weights"


class PhraseSelector(CandidateSelector):
    """The candidate whose phrases the picture has, by a detector on the encoder's tokens.

    The score is the sum over the caption's phrases of log p(phrase | picture) + ``reward``, where a phrase that no
    training caption has counts ``unknown``; a reward above zero prefers captions that say more.

    A detector belongs to the encoder it was fitted on. Where the tokens have another width, minimum Bayes risk chooses,
    and one warning says so: swapping the encoder must not end a run.

    Args:
        weights: file from ``ladic fit-phrases``; "shapes" is the one shipped for the drawn scenes and their encoder.
        reward: added for each phrase.
        unknown: log-probability of a phrase outside the detector's list; rare and ungrammatical ones are.

    Raises:
        UsageError: if there is no such file, or it is none of ours.
    """

    def __init__(self, weights: str, reward: float = 0.0, unknown: float = -4.0) -> None:
        shipped = SHIPPED / f"{weights}.safetensors"
        self.detector = PhraseDetector.load(shipped if shipped.is_file() else Path(weights))
        self.weights, self.reward, self.unknown = weights, reward, unknown
        self._otherwise: CandidateSelector | None = None

    @torch.no_grad()
    def scores(self, candidates: list[list[str]], evidence: Evidence) -> list[list[float]]:
        tokens = evidence.image_tokens
        if tokens is None:
            raise UsageError("PhraseSelector: needs the picture's tokens; it can't choose among captions alone")
        if tokens.shape[-1] != self.detector.linear.in_features:
            return self._substitute(tokens.shape[-1]).scores(candidates, evidence)
        detector = self.detector.to(tokens.device)
        with torch.autocast(tokens.device.type, enabled=False):
            present = F.logsigmoid(torch.logsumexp(detector(tokens.float()), dim=1)).cpu()
        return [
            [self._score(caption, row) for caption in captions]
            for captions, row in zip(candidates, present.tolist(), strict=True)
        ]

    def _substitute(self, width: int) -> CandidateSelector:
        if self._otherwise is None:
            self._otherwise = MinimumBayesRiskSelector()
            log.warning(
                "PhraseSelector: weights '%s' were fitted on image tokens of width %d, this encoder gives %d: minimum "
                "Bayes risk chooses instead; `ladic fit-phrases` fits them to this encoder",
                self.weights,
                self.detector.linear.in_features,
                width,
            )
        return self._otherwise

    def _score(self, caption: str, present: list[float]) -> float:
        index = self.detector.index
        found = phrases_of([caption], self.detector.longest)
        known = (present[index[phrase]] if phrase in index else self.unknown for phrase in found)
        return sum(value + self.reward for value in known)
