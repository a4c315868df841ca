"""Some of the pictures of a source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ladic.datamodules.source import CaptionSource


class Subset(CaptionSource):
    """The pictures of a source with these indices, in their order."""

    def __init__(self, source: CaptionSource, indices: Sequence[int]) -> None:
        self.source, self.indices = source, indices
        self.stored = source.stored

    def __len__(self) -> int:
        return len(self.indices)

    def image_id(self, index: int) -> int | str:
        return self.source.image_id(self.indices[index])

    def captions(self, index: int) -> list[str]:
        return self.source.captions(self.indices[index])

    def references(self, index: int) -> list[str]:
        return self.source.references(self.indices[index])

    def image(self, index: int) -> Any:
        return self.source.image(self.indices[index])
