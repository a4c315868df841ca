"""The contract of a rounding: from scores of words at every position to a caption."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from ladic.components.latent_spaces.base import TextLatentSpace
from ladic.components.latent_spaces.words import Words
from ladic.spec import Buildable


class Rounding(Buildable, ABC):
    """Decides on the words of an estimate, all positions in view.

    A subclass defines ``__call__``; one that has more readings than one defines ``several``, which is what is asked.

    Attributes:
        clamp: whether every estimate of the sampler is replaced by the latent of the words that it is rounded to, the
            clamping trick of Diffusion-LM (Li et al. 2022, §4.2); otherwise the last one alone is rounded.
        readings: captions that it gives for one estimate, all of them candidates.
    """

    clamp: bool = False
    readings: int = 1

    def check(self, space: TextLatentSpace) -> None:
        """Refuses a space that it can't read, with a UsageError."""

    @abstractmethod
    def __call__(self, logits: Tensor, words: Words) -> Tensor:
        """Index into the logits (B, L) of each position's word, from logits (B, L, V) in float32.

        Words that may not stand at a position have a logit of minus infinity there.
        """

    def several(self, logits: Tensor, words: Words) -> Tensor:
        """Indices (B, ``readings``, L) of captions that suit an estimate, from logits (B, L, V); the first is the one
        that ``__call__`` gives."""
        return self(logits, words).unsqueeze(1)


class ArgmaxRounding(Rounding):
    """The likeliest word of each position, whatever stands beside it.

    Args:
        clamp: see ``Rounding``; without it this is what a captioner does that has no rounding.
    """

    def __init__(self, clamp: bool = True) -> None:
        self.clamp = clamp

    def __call__(self, logits: Tensor, words: Words) -> Tensor:
        return logits.argmax(-1)
