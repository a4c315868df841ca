"""The shapes data set as a caption source: scenes, captions and pictures made when asked for."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image

from ladic.datamodules.shapes.captions import paragraph, references
from ladic.datamodules.shapes.draw import draw
from ladic.datamodules.shapes.scene import Scene, random_scene
from ladic.datamodules.source import CaptionSource
from ladic.errors import UsageError

SPLITS = ("train", "val", "test")


class ShapesSource(CaptionSource):
    """A split of the shapes world. Nothing is stored: everything follows from (seed, split, index).

    Args:
        split: "train", "val" or "test"; no two share a random stream.
        num_scenes: length; a longer split begins with the scenes of a shorter one.
        seed: of the whole data set.
        size: height and width of the pictures in pixels.
        paragraphs: one paragraph per picture instead of five captions.

    Raises:
        UsageError: for an unknown split, or numbers out of range.

    >>> source = ShapesSource("val", num_scenes=10)
    >>> source.image_id(7), source.image(7).size
    ('val-000007', (64, 64))
    >>> source.captions(7)[0]
    'a big striped white star in the top right corner'
    """

    stored = False

    def __init__(self, split: str, num_scenes: int, seed: int = 0, size: int = 64, paragraphs: bool = False) -> None:
        if split not in SPLITS:
            raise UsageError(f"split='{split}' is not a split of the shapes data: choose one of {', '.join(SPLITS)}")
        if num_scenes < 1:
            raise UsageError(f"num_scenes={num_scenes}: a split needs at least one scene")
        if seed < 0:
            raise UsageError(f"seed={seed}: seeds of the shapes data start at 0")
        if size < 8:
            raise UsageError(f"size={size}: a picture of shapes needs at least 8 pixels, and 64 to tell textures apart")
        self.split, self.num_scenes, self.seed, self.size, self.paragraphs = split, num_scenes, seed, size, paragraphs

    def __len__(self) -> int:
        return self.num_scenes

    def scene(self, index: int) -> Scene:
        """What the picture shows, for ``check``."""
        return _scene(self.seed, self.split, self._within(index))

    def image_id(self, index: int) -> str:
        return f"{self.split}-{self._within(index):06d}"

    def captions(self, index: int) -> list[str]:
        rng = _stream(self.seed, self.split, self._within(index), "captions")
        scene = self.scene(index)
        return [paragraph(scene, rng)] if self.paragraphs else references(scene, rng)

    def image(self, index: int) -> Image.Image:
        return Image.fromarray(draw(self.scene(index), self.size))

    def _within(self, index: int) -> int:
        if not 0 <= index < self.num_scenes:
            raise IndexError(f"scene {index} of {self.num_scenes}")
        return index


@functools.lru_cache(maxsize=65536)
def _scene(seed: int, split: str, index: int) -> Scene:
    return random_scene(_stream(seed, split, index, "scene"))


def _stream(seed: int, split: str, index: int, purpose: str) -> np.random.Generator:
    key = (SPLITS.index(split), index, ("scene", "captions").index(purpose))
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))
