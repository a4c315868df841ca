"""The contract of a post-processor."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from ladic.components.latent_spaces.base import TextLatentSpace
from ladic.spec import Buildable


class PostProcessor(Buildable, ABC):
    """Makes captions of decoded words. A subclass defines ``text``; override ``__call__`` to work on tokens."""

    @abstractmethod
    def text(self, caption: str) -> str:
        """One caption mended."""

    def __call__(self, indices: Tensor, space: TextLatentSpace) -> list[str]:
        """Captions of indices into the logits (B, L)."""
        return [self.text(caption) for caption in space.to_text(indices)]
