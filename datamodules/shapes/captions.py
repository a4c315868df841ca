"""What people might say of a scene: five short references, or one paragraph, all wholly true.

Each reference follows a plan of its own (a list, places, relations, the background first, ...), names every object with
its shape and colour and stays within 22 tokens. Details beyond that come by lot and are dropped where there is no room.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from ladic.datamodules.shapes.lexicon import (
    CLUTTER_WORDS,
    NUMBERS,
    PLURALS,
    REGION_WORDS,
    RELATION_WORDS,
    SIZE_WORDS,
    article,
)
from ladic.datamodules.shapes.scene import REGIONS, RELATIONS, Scene, SceneObject, pick, shuffled

MAX_TOKENS = 22
MAX_PARAGRAPH_TOKENS = 64


def references(scene: Scene, rng: np.random.Generator) -> list[str]:
    """Five different captions."""
    plans: list[_Plan] = [_plain_list, _led_list, _placed_list, _placed_list, _background_first]
    if len(scene.objects) > 1:
        plans = [_plain_list, _led_list, _placed_list, _relations, _background_first, _around]
    found: list[str] = []
    for plan in itertools.cycle(shuffled(rng, plans)):
        caption = _within(MAX_TOKENS, lambda detail, plan=plan: plan(scene, rng, detail))  # type: ignore[misc]
        if caption and caption not in found:
            found.append(caption)
        if len(found) == 5:
            return found
    raise AssertionError("unreachable")


def paragraph(scene: Scene, rng: np.random.Generator) -> str:
    """Several sentences: how many objects on what background, each object with its place, and how they stand."""
    count = len(scene.objects)
    total = f"there {'is' if count == 1 else 'are'} {NUMBERS[count - 1]} {'object' if count == 1 else 'objects'}"
    if rng.random() < 0.5:
        sentences = [f"{total} {_on_background(scene)}"]
    else:
        sentences = [f"the background is {CLUTTER_WORDS[scene.cluttered]} and {scene.tint}", total]
    things = shuffled(rng, scene.objects)
    for thing in things:
        noun, place = _noun(thing, rng, 1.0), REGION_WORDS[_region(thing, rng)]
        forms = (f"{noun} is {place}", f"{place} there is {noun}", f"there is {noun} {place}")
        sentences.append(pick(rng, forms))
    sentences.extend(_relation_sentences(things, rng))
    while sum(len(sentence.split()) + 1 for sentence in sentences) > MAX_PARAGRAPH_TOKENS:
        sentences.pop()
    return " ".join(f"{sentence} ." for sentence in sentences)


_Plan = Callable[[Scene, np.random.Generator, float], str]


def _within(limit: int, write: Callable[[float], str]) -> str:
    """Write with fewer and fewer details until it is short enough; an empty text where the plan has no way."""
    caption = ""
    for detail in (0.6, 0.4, 0.2, 0.0):
        caption = write(detail)
        if len(caption.split()) <= limit:
            return caption
    return ""


def _plain_list(scene: Scene, rng: np.random.Generator, detail: float) -> str:
    background = f" {_on_background(scene)}" if rng.random() < detail else ""
    return _join(_nouns(scene, rng, detail), rng) + background


def _led_list(scene: Scene, rng: np.random.Generator, detail: float) -> str:
    nouns = _nouns(scene, rng, detail)
    total = f"{NUMBERS[len(scene.objects) - 1]} objects"
    single = len(scene.objects) == 1
    leads = ["an image of", "an image with", "the image shows", "there is" if single else "there are"]
    if not single and rng.random() < 0.4:
        return f"{pick(rng, leads)} {total} , {_join(nouns, rng)}"
    return f"{pick(rng, leads)} {_join(nouns, rng)}"


def _placed_list(scene: Scene, rng: np.random.Generator, detail: float) -> str:
    things = shuffled(rng, scene.objects)
    placed = [(_noun(thing, rng, detail), REGION_WORDS[_region(thing, rng)]) for thing in things]
    if rng.random() < 0.4:
        verb = pick(rng, ("is ", "there is ", ""))
        return _join([f"{place} {verb}{noun}" for noun, place in placed], rng)
    verb = "is " if rng.random() < 0.3 else ""
    return _join([f"{noun} {verb}{place}" for noun, place in placed], rng)


def _background_first(scene: Scene, rng: np.random.Generator, detail: float) -> str:
    return f"a {_background(scene)} with {_join(_nouns(scene, rng, detail), rng)}"


def _relations(scene: Scene, rng: np.random.Generator, detail: float) -> str:
    """One object by its relation to each of the others, or to one of them with the third for itself."""
    first, second, *rest = shuffled(rng, scene.objects)
    verb = "is " if rng.random() < 0.3 else ""
    opening = f"{_noun(first, rng, detail)} {verb}{_relation(first, second, rng)} {_noun(second, rng, detail)}"
    if not rest:
        return opening
    third = _noun(rest[0], rng, detail)
    if rng.random() < 0.5:
        return f"{opening} and {_relation(first, rest[0], rng)} {third}"
    return f"{opening} , and {third} {REGION_WORDS[_region(rest[0], rng)]}"


def _around(scene: Scene, rng: np.random.Generator, detail: float) -> str:
    """One object, the others as seen from it."""
    first, *rest = shuffled(rng, scene.objects)
    others = [f"{_noun(thing, rng, detail)} {_relation(thing, first, rng)} it" for thing in rest]
    return f"{_noun(first, rng, detail)} with {' and '.join(others)}"


def _relation_sentences(things: Sequence[SceneObject], rng: np.random.Generator) -> list[str]:
    """Neighbours in the list; only objects that "the red circle" singles out."""
    looks = [(thing.colour, thing.shape) for thing in things]
    sentences: list[str] = []
    subject: SceneObject | None = None
    for first, second in itertools.combinations([t for t in things if looks.count((t.colour, t.shape)) == 1], 2):
        name = "it" if first is subject and rng.random() < 0.5 else f"the {first.colour} {first.shape}"
        sentences.append(f"{name} is {_relation(first, second, rng)} the {second.colour} {second.shape}")
        subject = first
    return sentences


def _nouns(scene: Scene, rng: np.random.Generator, detail: float) -> list[str]:
    """A noun phrase for each object, in random order; objects alike are sometimes counted instead."""
    groups: dict[tuple[str, str], list[SceneObject]] = {}
    for thing in shuffled(rng, scene.objects):
        groups.setdefault((thing.colour, thing.shape), []).append(thing)
    nouns: list[str] = []
    for group in groups.values():
        if len(group) > 1 and rng.random() < 0.75:
            nouns.append(_counted(group, rng, detail))
        else:
            nouns.extend(_noun(thing, rng, detail) for thing in group)
    return nouns


def _counted(group: Sequence[SceneObject], rng: np.random.Generator, detail: float) -> str:
    sizes, textures = {thing.size for thing in group}, {thing.texture for thing in group}
    words = [NUMBERS[len(group) - 1]]
    if len(sizes) == 1 and rng.random() < detail:
        words.append(pick(rng, SIZE_WORDS[group[0].size]))
    if len(textures) == 1 and rng.random() < detail:
        words.append(group[0].texture)
    return " ".join([*words, group[0].colour, PLURALS[group[0].shape]])


def _noun(thing: SceneObject, rng: np.random.Generator, detail: float) -> str:
    words = [thing.colour]
    # That something is plain is rarely worth saying.
    if rng.random() < detail * (0.25 if thing.texture == "plain" else 1):
        words.insert(0 if rng.random() < 0.75 else 1, thing.texture)
    if rng.random() < detail:
        words.insert(0, pick(rng, SIZE_WORDS[thing.size]))
    return " ".join([article(words[0]), *words, thing.shape])


def _join(items: Sequence[str], rng: np.random.Generator) -> str:
    *most, last = items
    if not most:
        return last
    return f"{' , '.join(most)} {', and' if len(most) > 1 and rng.random() < 0.3 else 'and'} {last}"


def _relation(a: SceneObject, b: SceneObject, rng: np.random.Generator) -> str:
    """How a stands to b, preferably along the axis on which they are further apart."""
    true = [name for name in RELATIONS if a.related(name, b)]
    gap = {"left": abs(a.x - b.x), "right": abs(a.x - b.x), "above": abs(a.y - b.y), "below": abs(a.y - b.y)}
    widest = max(gap[name] for name in true)
    return pick(rng, RELATION_WORDS[pick(rng, [name for name in true if gap[name] > 0.6 * widest])])


def _region(thing: SceneObject, rng: np.random.Generator) -> str:
    regions = [name for name in REGIONS if thing.lies(name)]
    corner = [name for name in regions if " " in name]
    return corner[0] if corner and rng.random() < 0.6 else pick(rng, regions)


def _background(scene: Scene) -> str:
    return f"{CLUTTER_WORDS[scene.cluttered]} {scene.tint} background"


def _on_background(scene: Scene) -> str:
    return f"on a {_background(scene)}"
