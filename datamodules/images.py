"""Opening picture files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ladic.errors import UsageError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


def open_image(path: Path) -> Image.Image:
    """A picture as RGB, turned as its EXIF orientation says; what is transparent is white.

    Raises:
        UsageError: naming the file, if it is missing, broken, cut off, or a decompression bomb.
    """
    try:
        with Image.open(path) as image:
            return _to_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError as error:
        raise UsageError(f"image '{path}': no such file") from error
    except UnidentifiedImageError as error:
        raise UsageError(f"image '{path}': not a picture that Pillow can read") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(f"image '{path}': broken ({error})") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    """RGB without two surprises of Pillow's: it clips 16-bit greys to white, and shows what transparency hides."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")
