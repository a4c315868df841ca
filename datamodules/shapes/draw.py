"""Scenes to pixels: every edge is a signed distance, so that it is anti-aliased at any size.

A shape is a function of (x, y) in units of its radius, centred at the origin with y downwards, that returns a signed
distance: negative inside. Coverage is the distance in pixels, clipped to half a pixel on either side of the edge.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ladic.datamodules.shapes.scene import Scene, SceneObject

Array = NDArray[np.float32]

PALETTE = {
    "red": (214, 30, 40),
    "green": (24, 140, 50),
    "blue": (30, 70, 215),
    "yellow": (250, 222, 30),
    "purple": (125, 35, 165),
    "orange": (250, 125, 10),
    "white": (255, 255, 255),
    "black": (15, 15, 15),
}
TINT_PALETTE = {"grey": (165, 165, 168), "beige": (205, 186, 148), "pink": (224, 172, 184), "mint": (158, 203, 190)}

_PERIOD = 0.08  # of stripes and dots, as a fraction of the frame: the same on small and large objects
_RIM = 0.012
_CLUTTER = 0.13  # the background's brightness varies by this much where a picture is cluttered


def draw(scene: Scene, size: int = 64) -> NDArray[np.uint8]:
    """The picture of a scene: (size, size, 3), RGB.

    >>> from ladic.datamodules.shapes.scene import Scene, SceneObject
    >>> picture = draw(Scene((SceneObject("circle", "red", "large", "plain", 0.5, 0.5),), "grey", False))
    >>> picture.shape, picture[32, 32].tolist(), picture[0, 0].tolist()
    ((64, 64, 3), [214, 30, 40], [165, 165, 168])
    """
    canvas = np.empty((size, size, 3), np.float32)
    canvas[:] = TINT_PALETTE[scene.tint]
    if scene.cluttered:
        canvas *= _clutter(scene.clutter_seed, size)[..., None]
    for thing in scene.objects:
        _paint(canvas, thing)
    return (canvas + 0.5).clip(0, 255).astype(np.uint8)


def _paint(canvas: Array, thing: SceneObject) -> None:
    size = len(canvas)
    reach = thing.radius * size + 1
    left, right = max(0, int(thing.x * size - reach)), min(size, int(thing.x * size + reach) + 1)
    top, bottom = max(0, int(thing.y * size - reach)), min(size, int(thing.y * size + reach) + 1)
    grid = _pixel_centres(size)
    x, y = (grid[left:right] - thing.x)[None, :], (grid[top:bottom] - thing.y)[:, None]
    distance = _DISTANCES[thing.shape](x / thing.radius, y / thing.radius) * np.float32(thing.radius)
    coverage = _coverage(distance * size)[..., None]
    colour = np.array(PALETTE[thing.colour], np.float32)
    if thing.texture != "plain":
        # A rim stays free of marks: they would eat the outline, by which the shape is told.
        marks = _coverage(np.maximum(_TEXTURES[thing.texture](x, y), distance + _RIM) * size)[..., None]
        # Marks are pale on dark colours and dark on bright ones: they show on all eight.
        ink = colour * 0.3 if float((colour * _LUMA).sum()) > 100 else colour * 0.25 + 0.75 * 255
        colour = colour + marks * (ink - colour)
    patch = canvas[top:bottom, left:right]
    patch += coverage * (colour - patch)


def _coverage(distance: Array) -> Array:
    return np.clip(np.float32(0.5) - distance, np.float32(0), np.float32(1))


@functools.lru_cache(maxsize=8)
def _pixel_centres(size: int) -> Array:
    return ((np.arange(size) + 0.5) / size).astype(np.float32)


def _circle(x: Array, y: Array) -> Array:
    return np.sqrt(x * x + y * y) - np.float32(0.95)


def _box(x: Array, y: Array, half_width: float, half_height: float) -> Array:
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _square(x: Array, y: Array) -> Array:
    return _box(x, y, 0.86, 0.86)


def _triangle(x: Array, y: Array) -> Array:
    # Apex at (0, -1), base at y = 0.8: the slanted sides have the normal (1.8, -1) / |.|.
    return np.maximum((np.abs(x) * 1.8 - (y + 1)) / np.float32(np.hypot(1.8, 1)), y - np.float32(0.8))


def _cross(x: Array, y: Array) -> Array:
    return np.minimum(_box(x, y, 0.35, 0.97), _box(x, y, 0.97, 0.35))


def _star(x: Array, y: Array) -> Array:
    # Fold the plane onto one of ten wedges; there a single straight edge runs from tip to notch.
    angle = np.abs((np.arctan2(x, -y) + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)
    radius = np.sqrt(x * x + y * y)
    u, v = radius * np.cos(angle), radius * np.sin(angle)
    notch_u, notch_v = 0.5 * np.cos(np.pi / 5), 0.5 * np.sin(np.pi / 5)
    normal_u, normal_v = notch_v, 1.05 - notch_u
    return ((u - 1.05) * normal_u + v * normal_v) / np.float32(np.hypot(normal_u, normal_v))


def _heart(x: Array, y: Array) -> Array:
    # A square standing on its corner, with a disc on each of its upper sides.
    side, centre, disc = 0.57, 0.57 / 2**0.5, np.float32(0.57)
    x = np.abs(x)
    turned = np.maximum(np.abs(x + y - 0.1), np.abs(x - y + 0.1)) / np.float32(2**0.5) - side
    lobe = np.sqrt((x - centre) ** 2 + (y + centre - 0.1) ** 2) - disc
    return np.minimum(turned, lobe)


_DISTANCES: dict[str, Callable[[Array, Array], Array]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "heart": _heart,
}


def _stripes(x: Array, y: Array) -> Array:
    # Diagonal, so that a stripe never runs along a square's or a cross's own edge; the middle one has no mark.
    phase = ((x + y) / np.float32(2**0.5 * _PERIOD)) % 1
    return (np.float32(0.19) - np.abs(phase - np.float32(0.5))) * -np.float32(_PERIOD)


def _dots(x: Array, y: Array) -> Array:
    u = (x / np.float32(_PERIOD) + np.float32(0.5)) % 1 - np.float32(0.5)
    v = (y / np.float32(_PERIOD) + np.float32(0.5)) % 1 - np.float32(0.5)
    return (np.sqrt(u * u + v * v) - np.float32(0.3)) * np.float32(_PERIOD)


_TEXTURES: dict[str, Callable[[Array, Array], Array]] = {"striped": _stripes, "dotted": _dots}
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def _clutter(seed: int, size: int) -> Array:
    """Brightness factors (size, size) around 1: speckles and blobs, lines and a gradient, all faint."""
    rng = np.random.Generator(np.random.PCG64(seed))
    grid = _pixel_centres(size)
    # Round spots are products of a row and a column profile: one sum of outer products draws them all.
    spots = rng.random((3, 24)).astype(np.float32)
    width = np.where(np.arange(24) < 18, np.float32(0.014), np.float32(0.09))
    sign = np.where(spots[2] < 0.5, np.float32(-1), np.float32(1))
    columns = np.exp(-(((grid - spots[0][:, None]) / width[:, None]) ** 2))
    rows = np.exp(-(((grid - spots[1][:, None]) / width[:, None]) ** 2)) * sign[:, None]
    # Not `@`: from some size on BLAS uses threads, which wait for each other while the cores are busy training
    # (224 px, two busy cores: 16 ms on average, against 1.6; at 64 px either is quick).
    light = np.einsum("ki,kj->ij", rows, columns)
    for direction, offset, shade in rng.random((4, 3)):
        across, down = float(np.cos(np.pi * direction)), float(np.sin(np.pi * direction))
        distance = (grid - 0.5) * across + ((grid - 0.5) * down)[:, None] - (offset - 0.5) * 0.8
        light += (1 - np.minimum(np.abs(distance) * 60, 1)) * (1 if shade < 0.5 else -1)
    slope = rng.random(2) - 0.5
    light += (grid - 0.5) * slope[0] + ((grid - 0.5) * slope[1])[:, None]
    return (1 + _CLUTTER * np.clip(light, -1, 1)).astype(np.float32)
