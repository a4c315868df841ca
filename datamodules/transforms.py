"""Pictures to tensors, as the image encoder wants them."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ladic.types import ImagePreprocess

RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def to_tensor(image: Image.Image, preprocess: ImagePreprocess) -> Tensor:
    """(3, size, size) float32: squashed to a square, scaled to [0, 1], minus mean, divided by std."""
    side = (preprocess.size, preprocess.size)
    if image.size != side:
        image = image.resize(side, RESAMPLING[preprocess.interpolation])
    pixels = torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.uint8).copy()).permute(2, 0, 1).float() / 255
    return (pixels - torch.tensor(preprocess.mean).view(3, 1, 1)) / torch.tensor(preprocess.std).view(3, 1, 1)
