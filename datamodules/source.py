"""Where captions and pictures come from, before any model is involved."""

from __future__ import annotations

from abc import ABC, abstractmethod

from PIL import Image


class CaptionSource(ABC):
    """A split: indexable pictures with their captions. Reads lazily; safe to copy into worker processes.

    Attributes:
        stored: whether captions lie in memory, so that all of them can be looked at when training begins; False where
            they are made when asked for.
    """

    stored: bool = True

    @abstractmethod
    def __len__(self) -> int:
        """Pictures in the split."""

    @abstractmethod
    def image_id(self, index: int) -> int | str:
        """Identifier of a picture, unique in the split and the same in every run."""

    @abstractmethod
    def captions(self, index: int) -> list[str]:
        """Its captions, cleaned for training; at least one, unless the pictures are there to be captioned."""

    def references(self, index: int) -> list[str]:
        """Its captions as they are scored against; those of training unless these were cleaned."""
        return self.captions(index)

    @abstractmethod
    def image(self, index: int) -> Image.Image:
        """The picture as RGB.

        Raises:
            UsageError: naming the file, if it is missing or broken.
        """
