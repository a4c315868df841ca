"""Where captions and pictures come from, before any model is involved."""

from __future__ import annotations

from abc import ABC, abstractmethod

from PIL import Image


class CaptionSource(ABC):
    """A split: indexable pictures with their captions. Reads lazily; safe to copy into worker processes."""

    @abstractmethod
    def __len__(self) -> int:
        """Pictures in the split."""

    @abstractmethod
    def image_id(self, index: int) -> int | str:
        """Identifier of a picture, unique in the split and the same in every run."""

    @abstractmethod
    def captions(self, index: int) -> list[str]:
        """Its captions, at least one."""

    @abstractmethod
    def image(self, index: int) -> Image.Image:
        """The picture as RGB.

        Raises:
            UsageError: naming the file, if it is missing or broken.
        """
