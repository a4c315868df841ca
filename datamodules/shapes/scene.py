"""The world of the shapes data set: what a scene holds, which relations are true in it, and how one is drawn by lot.

Coordinates are fractions of the frame: x grows to the right, y downwards. Every statement a caption can make about a
place has a threshold, and scenes keep clear of it: what is sayable is never borderline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "cross", "heart")
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "white", "black")
SIZES = ("small", "large")
TEXTURES = ("plain", "striped", "dotted")
TINTS = ("grey", "beige", "pink", "mint")
RELATIONS = ("left", "right", "above", "below")
REGIONS = ("left", "right", "top", "bottom", "middle", "top left", "top right", "bottom left", "bottom right")

RADIUS = {"small": 0.12, "large": 0.2}
RELATION_MARGIN = 0.11  # a is left of b when b's centre is further right by more than this
LOW, HIGH = 0.4, 0.6  # left and top lie below LOW, right and bottom above HIGH

_CLEARANCE = 0.04  # scenes keep this far from every threshold
_GAP = 0.03  # free space between two objects, and between an object and the frame
_PATIENCE = 24  # positions tried before all objects are placed anew
_ALIKE = 0.2  # chance that an object repeats another's shape and colour, so that "two red circles" can be said

T = TypeVar("T")


@dataclass(frozen=True)
class SceneObject:
    """A thing in the picture; ``x`` and ``y`` are its centre."""

    shape: str
    colour: str
    size: str
    texture: str
    x: float
    y: float

    @property
    def radius(self) -> float:
        """Half the width of its bounding box."""
        return RADIUS[self.size]

    def related(self, relation: str, other: SceneObject) -> bool:
        """Whether this object is ``left`` of, ``right`` of, ``above`` or ``below`` the other one."""
        gap = {
            "left": other.x - self.x,
            "right": self.x - other.x,
            "above": other.y - self.y,
            "below": self.y - other.y,
        }
        return gap[relation] > RELATION_MARGIN

    def lies(self, region: str) -> bool:
        """Whether its centre is in one of ``REGIONS``; "top left" is both top and left."""
        inside = {
            "left": self.x < LOW,
            "right": self.x > HIGH,
            "top": self.y < LOW,
            "bottom": self.y > HIGH,
            "middle": LOW <= self.x <= HIGH and LOW <= self.y <= HIGH,
        }
        return all(inside[word] for word in region.split())


@dataclass(frozen=True)
class Scene:
    """One picture's content.

    Attributes:
        objects: one to three, none overlapping.
        tint: colour of the background, one of ``TINTS``.
        cluttered: whether faint lines, blobs and speckles lie on the background.
        clutter_seed: fixes where they lie; of no consequence to any caption.
    """

    objects: tuple[SceneObject, ...]
    tint: str
    cluttered: bool
    clutter_seed: int = 0


def random_scene(rng: np.random.Generator) -> Scene:
    """Draw a scene.

    Only ``rng.random()`` is called: unlike ``choice`` or ``integers``, its stream is the same in every NumPy release.

    >>> scene = random_scene(np.random.default_rng(0))
    >>> [f"{thing.size} {thing.texture} {thing.colour} {thing.shape}" for thing in scene.objects]
    ['large dotted black cross', 'small dotted black star', 'large striped black cross']
    """
    count = 1 + int(np.searchsorted((0.25, 0.6), rng.random(), side="right"))
    tint, cluttered, clutter_seed = pick(rng, TINTS), rng.random() < 0.5, int(rng.random() * 2**31)
    looks: list[tuple[str, str, str, str]] = []
    for _ in range(count):
        shape, colour = pick(rng, SHAPES), pick(rng, COLOURS)
        if looks and rng.random() < _ALIKE:
            shape, colour = looks[0][:2]
        looks.append((shape, colour, pick(rng, SIZES), pick(rng, TEXTURES)))
    objects: list[SceneObject] = []
    tries = 0
    while len(objects) < count:
        look = looks[len(objects)]
        thing = SceneObject(*look, _coordinate(rng, RADIUS[look[2]]), _coordinate(rng, RADIUS[look[2]]))
        if all(_clear(thing, other) for other in objects):
            objects.append(thing)
        tries += 1
        if tries % _PATIENCE == 0 and len(objects) < count:
            objects.clear()  # the first ones may leave no room for the rest
    return Scene(tuple(objects), tint, cluttered, clutter_seed)


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of the options, each equally likely."""
    return options[int(rng.random() * len(options))]


def shuffled(rng: np.random.Generator, items: Sequence[T]) -> list[T]:
    """The items in random order."""
    keys = [float(rng.random()) for _ in items]
    return [items[i] for i in sorted(range(len(items)), key=keys.__getitem__)]


def _coordinate(rng: np.random.Generator, radius: float) -> float:
    edge = radius + _GAP
    bands = ((edge, LOW - _CLEARANCE), (LOW + _CLEARANCE, HIGH - _CLEARANCE), (HIGH + _CLEARANCE, 1 - edge))
    low, high = pick(rng, bands)
    return low + (high - low) * float(rng.random())


def _clear(a: SceneObject, b: SceneObject) -> bool:
    """No overlap, and neither offset near the margin at which a relation begins to hold."""
    dx, dy = abs(a.x - b.x), abs(a.y - b.y)
    # Bounding boxes, not discs: a square's corner reaches further than its radius.
    apart = max(dx, dy) > a.radius + b.radius + _GAP
    return apart and all(abs(offset - RELATION_MARGIN) > _CLEARANCE for offset in (dx, dy))
