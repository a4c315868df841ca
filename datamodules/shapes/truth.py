"""Whether a caption is true of a scene: its statements, each held against the objects it is about.

The caption says "a red circle"; which of the scene's circles is meant is not said. The things a caption brings up are
therefore matched to different objects in the way that makes most statements hold; only if no way makes all of them
hold is the caption false.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ladic.datamodules.shapes.grammar import read
from ladic.datamodules.shapes.lexicon import CLUTTER_WORDS
from ladic.datamodules.shapes.phrases import COUNTS, Reading, Statement
from ladic.datamodules.shapes.scene import Scene, SceneObject


class Claim(NamedTuple):
    """One statement of the caption and whether it holds."""

    text: str
    holds: bool


@dataclass(frozen=True)
class Truth:
    """The verdict on a caption.

    Attributes:
        claims: everything it says.
        objects_named: how many of the scene's objects it describes without a mistake in the description.
        objects_total: how many there are.
        missing: descriptions of the others.
        unparsed: words that fit nowhere in the grammar: repetitions, dangling beginnings, unknown words.
    """

    claims: tuple[Claim, ...]
    objects_named: int
    objects_total: int
    missing: tuple[str, ...]
    unparsed: tuple[str, ...]

    @property
    def wholly_true(self) -> bool:
        """Something is said, all of it holds and all of it was understood."""
        return bool(self.claims) and all(claim.holds for claim in self.claims) and not self.unparsed

    @property
    def coverage(self) -> float:
        """Share of the objects that are named."""
        return self.objects_named / self.objects_total


def check(caption: str, scene: Scene) -> Truth:
    """Hold a caption against a scene.

    >>> from ladic.datamodules.shapes.scene import Scene, SceneObject
    >>> scene = Scene((SceneObject("circle", "red", "small", "plain", 0.2, 0.5),), "grey", False)
    >>> check("a red circle on the left", scene).wholly_true
    True
    >>> [claim.text for claim in check("a big red circle on the right", scene).claims if not claim.holds]
    ['large red circle', 'red circle on the right']
    """
    reading = read(caption)
    best: tuple[tuple[int, int], list[bool], set[int]] | None = None
    for meant in _matchings(reading, scene):
        verdicts = [_holds(statement, meant, scene) for statement in reading.statements]
        mistaken = {
            statement.things[0]
            for statement, holds in zip(reading.statements, verdicts, strict=True)
            if statement.kind == "attribute" and not holds
        }
        named = {index for thing, index in enumerate(meant) if index is not None and thing not in mistaken}
        score = (sum(verdicts), len(named))
        if best is None or score > best[0]:
            best = score, verdicts, named
    assert best is not None  # the matching that leaves every thing without an object is always among them
    _, verdicts, named = best
    return Truth(
        claims=tuple(Claim(s.text, holds) for s, holds in zip(reading.statements, verdicts, strict=True)),
        objects_named=len(named),
        objects_total=len(scene.objects),
        missing=tuple(_describe(thing) for index, thing in enumerate(scene.objects) if index not in named),
        unparsed=tuple(reading.unparsed),
    )


def _matchings(reading: Reading, scene: Scene) -> Iterator[list[int | None]]:
    """Every way to give the things different objects, or none; only to objects of the same shape or colour."""
    options = [
        [i for i, o in enumerate(scene.objects) if thing["shape"] == o.shape or thing.get("colour") == o.colour]
        for thing in reading.things
    ]

    def extend(start: list[int | None]) -> Iterator[list[int | None]]:
        if len(start) == len(options):
            yield start
            return
        for index in options[len(start)]:
            if index not in start:
                yield from extend([*start, index])
        yield from extend([*start, None])

    return extend([])


def _holds(statement: Statement, meant: list[int | None], scene: Scene) -> bool:
    if statement.kind == "count":
        return COUNTS[statement.value] == len(scene.objects)
    if statement.kind == "tint":
        return scene.tint == statement.value
    if statement.kind == "clutter":
        return CLUTTER_WORDS[scene.cluttered] == statement.value
    indices = [meant[thing] for thing in statement.things]
    objects = [scene.objects[index] for index in indices if index is not None]
    if len(objects) < len(indices):
        return False
    if statement.kind == "attribute":
        return bool(getattr(objects[0], statement.name) == statement.value)
    if statement.kind == "region":
        return objects[0].lies(statement.value)
    return objects[0].related(statement.value, objects[1])


def _describe(thing: SceneObject) -> str:
    return f"{thing.size} {thing.texture} {thing.colour} {thing.shape}"
