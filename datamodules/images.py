"""Opening picture files."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from ladic.errors import UsageError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


def open_image(path: Path) -> Image.Image:
    """A picture as RGB, turned as its EXIF orientation says.

    Raises:
        UsageError: naming the file, if it is missing, broken, cut off, or a decompression bomb.
    """
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError as error:
        raise UsageError(f"image '{path}': no such file") from error
    except UnidentifiedImageError as error:
        raise UsageError(f"image '{path}': not a picture that Pillow can read") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(f"image '{path}': broken ({error})") from error
