"""A sheet of pictures with their captions, to see at a glance whether they belong together."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ladic.datamodules.images import BrokenImageError
from ladic.datamodules.source import CaptionSource

SIDE, TEXT, GAP = 224, 64, 8
"""Pixels of a picture's side, of the room for its text, and between pictures."""


def contact_sheet(source: CaptionSource, count: int = 20, columns: int = 5, seed: int = 0) -> Image.Image:
    """Pictures at random, each in a square of its own shape, with its id and first caption; broken ones say so."""
    chosen = np.random.default_rng(seed).permutation(len(source))[:count]
    return sheet([tile(source, int(index)) for index in sorted(chosen)], columns)


def tile(source: CaptionSource, index: int) -> Image.Image:
    """One picture with its text."""
    square = Image.new("RGB", (SIDE, SIDE + TEXT), "white")
    captions = source.captions(index)
    text = captions[0] if captions else ""
    try:
        image = source.image(index)
        image.thumbnail((SIDE, SIDE))
        square.paste(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
    except BrokenImageError as error:
        square.paste("lightgrey", (0, 0, SIDE, SIDE))
        text = str(error)
    draw, font = ImageDraw.Draw(square), ImageFont.load_default(11)
    lines = [str(source.image_id(index)), *textwrap.wrap(text, 38)][: TEXT // 13]
    for number, line in enumerate(lines):
        draw.text((2, SIDE + 2 + 13 * number), line, fill="grey" if number == 0 else "black", font=font)
    return square


def sheet(tiles: Sequence[Image.Image], columns: int) -> Image.Image:
    """Tiles of one size in rows."""
    width, height = tiles[0].size
    rows = -(-len(tiles) // columns)
    whole = Image.new("RGB", (columns * (width + GAP) + GAP, rows * (height + GAP) + GAP), "white")
    for number, one in enumerate(tiles):
        row, column = divmod(number, columns)
        whole.paste(one, (GAP + column * (width + GAP), GAP + row * (height + GAP)))
    return whole
