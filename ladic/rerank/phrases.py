"""Choosing by what the picture shows: the phrases of a caption, looked for in the image tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ladic.phrases import PhraseDetector, phrases_of
from ladic.rerank.bound import EncoderBoundSelector
from ladic.spec import absolute

SHIPPED = Path(__file__).parent / "weights"


class PhraseSelector(EncoderBoundSelector):
    """The candidate whose phrases the picture has, by a detector on the encoder's tokens.

    The score is the sum over the caption's phrases of log p(phrase | picture) + ``reward``, where a phrase that no
    training caption has counts ``unknown``; a reward above zero prefers captions that say more.

    Args:
        weights: file from ``ladic fit-phrases``; "shapes" is the one shipped for the drawn scenes and their encoder.
        reward: added for each phrase.
        unknown: log-probability of a phrase outside the detector's list; rare and ungrammatical ones are.

    Raises:
        UsageError: if there is no such file, or it is none of ours.
    """

    fitted_by = "fit-phrases"

    def __init__(self, weights: str, reward: float = 0.0, unknown: float = -4.0) -> None:
        shipped = SHIPPED / f"{weights}.safetensors"
        self.detector = PhraseDetector.load(shipped if shipped.is_file() else Path(weights))
        self.weights, self.reward, self.unknown = weights, reward, unknown
        self.width = self.detector.linear.in_features

    def checkpoint_args(self) -> dict[str, Any]:
        """A file by its whole path, so that a checkpoint finds it from anywhere; a shipped one by its name."""
        shipped = (SHIPPED / f"{self.weights}.safetensors").is_file()
        return {**super().checkpoint_args(), "weights": self.weights if shipped else absolute(self.weights)}

    @torch.no_grad()
    def judge(self, candidates: list[list[str]], tokens: Tensor) -> list[list[float]]:
        detector = self.detector.to(tokens.device)
        with torch.autocast(tokens.device.type, enabled=False):
            present = F.logsigmoid(torch.logsumexp(detector(tokens), dim=1)).cpu()
        return [
            [self._score(caption, row) for caption in captions]
            for captions, row in zip(candidates, present.tolist(), strict=True)
        ]

    def _score(self, caption: str, present: list[float]) -> float:
        index = self.detector.index
        found = phrases_of([caption], self.detector.longest)
        known = (present[index[phrase]] if phrase in index else self.unknown for phrase in found)
        return sum(value + self.reward for value in known)
