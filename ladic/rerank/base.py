"""The contract of a selector: what it is shown of a batch, and one caption per image out of its candidates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ladic.spec import Buildable
from ladic.types import ImagePreprocess


class Reconstruct(Protocol):
    """``reconstruct(rows, captions, times, draws) -> (words, latents)``, see ``ladic.reconstruction``."""

    def __call__(
        self, rows: Sequence[int], captions: Sequence[str], times: Sequence[float], draws: int
    ) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class Evidence:
    """What a selector may look at besides the candidates' words, for the B images of a batch.

    Attributes:
        images: (B, 3, H, W) preprocessed pixels; None where the tokens come from a cache.
        image_tokens: (B, N, C) of the image encoder.
        preprocess: what turned pictures into those pixels.
        reconstruct: how well the model itself denoises a caption given an image.
    """

    images: Tensor | None = None
    image_tokens: Tensor | None = None
    reconstruct: Reconstruct | None = None
    preprocess: ImagePreprocess | None = None


class CandidateSelector(Buildable, ABC):
    """Picks one of the candidates of each image: the first with the highest score.

    Attributes:
        reconstructs: whether it asks the model to denoise candidates, which only a diffusion over latents can.
    """

    reconstructs = False

    @abstractmethod
    def scores(self, candidates: list[list[str]], evidence: Evidence) -> list[list[float]]:
        """A number for every candidate of every image, higher is better.

        Args:
            candidates: for each of the B images its captions, at least one.
            evidence: of the same images.
        """

    def select(self, candidates: list[list[str]], evidence: Evidence = Evidence()) -> list[str]:
        """One caption per image."""
        return [
            captions[scores.index(max(scores))]
            for captions, scores in zip(candidates, self.scores(candidates, evidence), strict=True)
        ]
