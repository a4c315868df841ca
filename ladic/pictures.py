"""Pictures as people have them, files, PIL images or tensors, prepared for a captioner."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from ladic.datamodules.images import as_rgb, open_image
from ladic.datamodules.transforms import to_tensor
from ladic.errors import UsageError
from ladic.types import ImagePreprocess


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        name: the file's, or its place in the list.
        image_id: digest of its pixels, so that a renamed or moved file keeps its noise, and a file and the PIL image
            read from it have the same.
        pixels: (3, size, size), as the encoder wants them.
    """

    name: str
    image_id: str
    pixels: Tensor


ImageLike = str | Path | Image.Image | Tensor | Picture


def read_picture(image: ImageLike, preprocess: ImagePreprocess, place: int = 0) -> Picture:
    """A picture from a file, a PIL image, or a tensor (3, size, size) that is already preprocessed.

    Raises:
        UsageError: naming the file, or what is wrong with the tensor.
    """
    if isinstance(image, Picture):
        return image
    if isinstance(image, Tensor):
        shape = (3, preprocess.size, preprocess.size)
        if tuple(image.shape) != shape:
            raise UsageError(
                f"image {place}: a tensor of shape {tuple(image.shape)}; accepted is {shape}, preprocessed as "
                "model.preprocess says, or give a PIL image or a path"
            )
        pixels = image.detach().float().cpu().contiguous()
        return Picture(f"image {place}", _digest(pixels.numpy().tobytes()), pixels)
    if isinstance(image, str | Path):
        name, opened = str(image), open_image(Path(image))
    elif isinstance(image, Image.Image):
        name, opened = f"image {place}", as_rgb(image)
    else:
        raise UsageError(f"image {place}: a {type(image).__name__}; accepted are paths, PIL images and tensors")
    return Picture(name, _digest(repr(opened.size).encode() + opened.tobytes()), to_tensor(opened, preprocess))


def read_pictures(images: ImageLike | Sequence[ImageLike], preprocess: ImagePreprocess) -> list[Picture]:
    """Pictures of one image or several; a tensor may be a whole batch (B, 3, size, size)."""
    single = isinstance(images, str | Path | Image.Image | Picture) or (isinstance(images, Tensor) and images.ndim == 3)
    listed: list[Any] = [images] if single else list(images)  # type: ignore[arg-type]
    return [read_picture(image, preprocess, place) for place, image in enumerate(listed)]


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()
