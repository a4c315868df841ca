"""The embedded default: drawn scenes, captioned and checkable, without a file or a download."""

from __future__ import annotations

from typing import Any, Literal

from ladic.datamodules.base import CaptionDataModule
from ladic.datamodules.shapes.source import ShapesSource
from ladic.datamodules.shapes.truth import Truth, check
from ladic.datamodules.source import CaptionSource


class ShapesDataModule(CaptionDataModule):
    """Scenes of one to three objects, drawn on the fly from a seed; see ``ladic.datamodules.shapes.scene``.

    Args:
        num_train: training scenes, each with five references.
        num_eval: validation scenes, and as many test scenes.
        size: side of the pictures in pixels.
        paragraphs: one paragraph for each scene instead of five captions.
        world_seed: of the scenes.
        unit: as in ``CaptionDataModule``.
        options: the others of ``CaptionDataModule``.
    """

    def __init__(
        self,
        num_train: int = 20000,
        num_eval: int = 500,
        size: int = 64,
        paragraphs: bool = False,
        world_seed: int = 0,
        unit: Literal["caption", "image"] = "image",
        **options: Any,
    ) -> None:
        super().__init__(unit=unit, **options)
        self.num_train, self.num_eval, self.size = num_train, num_eval, size
        self.paragraphs, self.world_seed = paragraphs, world_seed

    def source(self, split: str) -> CaptionSource:
        count = self.num_train if split == "train" else self.num_eval
        return ShapesSource(split, count, seed=self.world_seed, size=self.size, paragraphs=self.paragraphs)

    def truth(self, split: str, image_id: int | str, caption: str) -> Truth:
        """Which claims of a caption hold of its scene, and which objects it leaves out."""
        source = self.source(split)
        assert isinstance(source, ShapesSource)
        return check(caption, source.scene(int(str(image_id).rsplit("-", 1)[1])))
