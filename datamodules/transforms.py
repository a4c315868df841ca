"""Pictures to tensors, as the image encoder wants them; and at random for training."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ladic.seeds import mixed_seed
from ladic.types import ImagePreprocess

RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}

Augment = Literal["none", "crop", "crop-flip"]
AUGMENTS = ("none", "crop", "crop-flip")
AREA, RATIO = (0.5, 1.0), (3 / 4, 4 / 3)
"""Share of the area and aspect ratio of random crops. BLIP's fine-tuning on captions takes half the area and more."""

SIDES = re.compile(r"\b((left|right)(s|most|ward|wards|hand|handed)?|(counter|anti)?-?clockwise)\b", re.IGNORECASE)


def to_tensor(image: Image.Image, preprocess: ImagePreprocess) -> Tensor:
    """(3, size, size) float32: squashed to a square, or its middle cut out; scaled to [0, 1], minus mean, over std."""
    image = _middle(image, preprocess) if preprocess.resize == "crop" else _squashed(image, preprocess)
    return _normalised(image, preprocess)


def augmented(image: Image.Image, preprocess: ImagePreprocess, augment: Augment, seed: int, flip: bool) -> Tensor:
    """(3, size, size): a random crop (Szegedy et al. 2015), mirrored half of the time.

    Args:
        image: RGB.
        preprocess: of the encoder.
        augment: "crop" or "crop-flip"; "none" is ``to_tensor``.
        seed: everything drawn follows from it.
        flip: whether the picture may be mirrored; not if a caption of it tells left from right.
    """
    if augment == "none":
        return to_tensor(image, preprocess)
    from torchvision.transforms.v2 import functional

    top, left, height, width, mirrored = _draw(image.size, seed)
    image = functional.crop(image, top, left, height, width)
    if mirrored and flip and augment == "crop-flip":
        image = functional.horizontal_flip(image)
    return _normalised(_squashed(image, preprocess), preprocess)


def tells_sides(captions: Iterable[str]) -> bool:
    """Whether a caption would be wrong of the mirrored picture.

    Example:
        >>> tells_sides(["a dog on the LEFT"]), tells_sides(["a bright dog is leaving"])
        (True, False)
    """
    return any(SIDES.search(caption) for caption in captions)


def _draw(size: tuple[int, int], seed: int) -> tuple[int, int, int, int, bool]:
    """Top, left, height and width of a crop inside a picture of (width, height), and whether to mirror it."""
    width, height = size
    generator = torch.Generator().manual_seed(mixed_seed(seed))
    numbers = torch.rand(4 * 10 + 1, generator=generator).tolist()
    for turn in range(10):  # as torchvision's RandomResizedCrop, which gives up after ten
        share, aspect, down, across = numbers[4 * turn : 4 * turn + 4]
        area = (AREA[0] + share * (AREA[1] - AREA[0])) * width * height
        ratio = math.exp(math.log(RATIO[0]) + aspect * (math.log(RATIO[1]) - math.log(RATIO[0])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(down * (height - h + 1)), int(across * (width - w + 1)), h, w, numbers[-1] < 0.5
    return 0, 0, height, width, numbers[-1] < 0.5


def _middle(image: Image.Image, preprocess: ImagePreprocess) -> Image.Image:
    """The middle square of a picture that is scaled until its shorter side is ``size / crop_share``."""
    from torchvision.transforms.v2 import InterpolationMode, functional

    shorter = math.floor(preprocess.size / preprocess.crop_share)
    image = functional.resize(image, [shorter], InterpolationMode(preprocess.interpolation))
    return functional.center_crop(image, [preprocess.size, preprocess.size])


def _squashed(image: Image.Image, preprocess: ImagePreprocess) -> Image.Image:
    side = (preprocess.size, preprocess.size)
    return image if image.size == side else image.resize(side, RESAMPLING[preprocess.interpolation])


def _normalised(image: Image.Image, preprocess: ImagePreprocess) -> Tensor:
    pixels = torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.uint8).copy()).permute(2, 0, 1).float() / 255
    return (pixels - torch.tensor(preprocess.mean).view(3, 1, 1)) / torch.tensor(preprocess.std).view(3, 1, 1)
