"""Opening picture files."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ladic.errors import UsageError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


class BrokenImageError(UsageError):
    """A picture that is missing or can't be decoded; training may leave out a stated share of these."""


def open_image(path: Path) -> Image.Image:
    """A picture as RGB, turned as its EXIF orientation says; what is transparent is white, what moves its first frame.

    Raises:
        BrokenImageError: naming the file, if it is missing, empty, broken, cut off, or a decompression bomb.
    """
    return decode_image(path, str(path))


def decode_image(file: Path | IO[bytes], name: str) -> Image.Image:
    """As ``open_image``, of an open file too.

    Args:
        file: path, or file open for reading.
        name: for complaints.
    """
    try:
        with Image.open(file) as image:
            return as_rgb(image)
    except FileNotFoundError as error:
        raise BrokenImageError(f"image '{name}': no such file") from error
    except UnidentifiedImageError as error:
        empty = (
            "an empty file"
            if isinstance(file, Path) and not file.stat().st_size
            else "not a picture that Pillow can read"
        )
        raise BrokenImageError(f"image '{name}': {empty}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BrokenImageError(f"image '{name}': broken ({error})") from error


def _upright(image: Image.Image) -> Image.Image:
    """Turned as EXIF says; as it is stored where the EXIF data is damaged, which says nothing about the pixels."""
    try:
        return ImageOps.exif_transpose(image)
    except (SyntaxError, TypeError, ValueError, KeyError, IndexError, ZeroDivisionError, struct.error):
        return image


def as_rgb(image: Image.Image) -> Image.Image:
    """RGB, turned as its EXIF orientation says; what is transparent is white.

    Without two surprises of Pillow's: it clips deep greys to white, and shows what transparency hides.
    """
    image = _upright(image)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))
    elif image.mode == "F":  # floats have no agreed range; the usual ones are 0 to 1 and 0 to 255
        values = np.nan_to_num(np.asarray(image))
        image = Image.fromarray((values * (255 if values.max() <= 1 else 1)).clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")
