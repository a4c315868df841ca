"""The judge of captions can't be fooled: held against generated captions, spoilt captions and a brute-force oracle."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ladic.datamodules.shapes import Scene, SceneObject, check, paragraph, random_scene, references
from ladic.datamodules.shapes.lexicon import PLURALS, REGION_WORDS, RELATION_WORDS
from ladic.datamodules.shapes.scene import COLOURS, SHAPES, SIZES, TEXTURES, TINTS

WORDS = ("a", "the", "red", "blue", "circle", "star", "is", "left", "of", "and", "with", "it", "on", ".")

seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=50, deadline=None)

RED = SceneObject("circle", "red", "small", "striped", 0.2, 0.3)
BLUE = SceneObject("star", "blue", "large", "plain", 0.7, 0.7)
TWO = Scene((RED, BLUE), "grey", True)
ALIKE = Scene((RED, SceneObject("circle", "red", "large", "plain", 0.75, 0.7)), "beige", False)


def said(seed):
    rng = np.random.default_rng(seed)
    scene = random_scene(rng)
    return scene, references(scene, rng), paragraph(scene, rng)


@quick
@given(seeds)
def test_what_is_generated_is_wholly_true(seed):
    scene, captions, text = said(seed)
    assert len(set(captions)) == 5
    for caption in [*captions, text]:
        truth = check(caption, scene)
        assert truth.wholly_true, (caption, truth)
        assert truth.coverage == 1, (caption, truth)
        assert truth.missing == ()


def mutations(caption, groups):
    """The caption with each word of each group replaced by each other word of the group, articles kept right."""
    words = caption.split()
    for group in groups:
        for at, word in enumerate(words):
            for other in set(group) - {word} if word in group else ():
                text = " ".join([*words[:at], other, *words[at + 1 :]])
                text = re.sub(r"\ban? (?=orange|image)", "an ", text)
                yield re.sub(r"\ban (?!orange|image)", "a ", text)


@quick
@given(seeds)
def test_no_other_colour_shape_count_or_background_passes(seed):
    # A reference mentions each object once, so another colour or shape anywhere makes the mentions not be the scene's.
    scene, captions, _ = said(seed)
    for caption in captions:
        spoilt = list(mutations(caption, [COLOURS, SHAPES, PLURALS.values(), TINTS]))
        for mutation in spoilt[seed % 5 :: 5]:
            assert not check(mutation, scene).wholly_true, (mutation, scene)
        for mutation in mutations(caption, [("two", "three")]):  # two of three is true, but leaves one out
            truth = check(mutation, scene)
            assert not (truth.wholly_true and truth.coverage == 1), (mutation, scene)
        for tint, kind in ((tint, kind) for tint in {scene.tint, "mint"} for kind in ("plain", "cluttered")):
            holds = tint == scene.tint and (kind == "cluttered") == scene.cluttered
            text = f"{_without_background(caption)} on a {kind} {tint} background"
            assert check(text, scene).wholly_true == holds, text


def _without_background(caption):
    return re.sub(r" on a \w+ \w+ background|^a \w+ \w+ background with ", "", caption)


@quick
@given(seeds)
def test_a_paragraph_with_one_wrong_first_mention_is_false(seed):
    scene, _, text = said(seed)
    wrong = [m for m in mutations(text, [COLOURS, SHAPES, TINTS]) if _indefinite_words(m) != _indefinite_words(text)]
    assert wrong
    for mutation in wrong[:: max(1, len(wrong) // 8)]:
        assert not check(mutation, scene).wholly_true, mutation


def _indefinite_words(text):
    return sorted(re.findall(r"\ban? ((?:\w+ )*?(?:circle|square|triangle|star|cross|heart|background))\b", text))


def oracle(scene, nouns, relation, regions):
    """Brute force, written apart from the code under test: does any choice of different objects fit all of it?"""

    def beside(name, a, b):
        return {"left": b.x - a.x, "right": a.x - b.x, "above": b.y - a.y, "below": a.y - b.y}[name] > 0.11

    def there(region, a):
        column = "left" if a.x < 0.4 else "right" if a.x > 0.6 else "middle"
        row = "top" if a.y < 0.4 else "bottom" if a.y > 0.6 else "middle"
        return column == row == "middle" if region == "middle" else set(region.split()) <= {column, row}

    return any(
        all(getattr(a, key) == value for a, noun in zip(chosen, nouns, strict=True) for key, value in noun.items())
        and (relation is None or beside(relation, chosen[0], chosen[1]))
        and all(there(region, a) for region, a in zip(regions, chosen, strict=True) if region)
        for chosen in itertools.permutations(scene.objects, len(nouns))
    )


@settings(max_examples=400, deadline=None)
@given(seeds, st.data())
def test_agrees_with_brute_force(seed, data):
    scene = random_scene(np.random.default_rng(seed))
    count = data.draw(st.integers(1, 2))
    nouns, phrases, regions = [], [], []
    for _ in range(count):
        thing = data.draw(st.sampled_from(scene.objects))
        noun = {"shape": thing.shape}  # mostly what is there, sometimes not
        for key, values in (("colour", COLOURS), ("texture", TEXTURES), ("size", SIZES)):
            kind = data.draw(st.sampled_from(["none", "true", "true", "any"]))
            if kind != "none":
                noun[key] = getattr(thing, key) if kind == "true" else data.draw(st.sampled_from(values))
        words = [noun[key] for key in ("size", "texture", "colour", "shape") if key in noun]
        region = data.draw(st.sampled_from([None, None, *REGION_WORDS]))
        nouns.append(noun)
        regions.append(region)
        phrases.append(" ".join(["an" if words[0] == "orange" else "a", *words]))
    relation = data.draw(st.sampled_from([None, *RELATION_WORDS])) if count == 2 else None
    if relation:
        link = data.draw(st.sampled_from(RELATION_WORDS[relation]))
        regions[0] = None
        caption = f"{phrases[0]} {data.draw(st.sampled_from(['', 'is ']))}{link} {phrases[1]}"
        caption += f" {REGION_WORDS[regions[1]]}" if regions[1] else ""
    else:
        placed = [f"{p} {REGION_WORDS[r]}" if r else p for p, r in zip(phrases, regions, strict=True)]
        caption = " and ".join(placed)
    truth = check(caption, scene)
    assert truth.unparsed == (), caption
    assert truth.wholly_true == oracle(scene, nouns, relation, regions), caption


def test_references_of_another_scene_are_almost_never_true():
    true = named = 0
    for seed in range(200):
        captions = said(seed)[1]
        truths = [check(caption, said(seed + 1)[0]) for caption in captions]
        true += sum(truth.wholly_true for truth in truths)
        named += sum(truth.wholly_true and truth.coverage == 1 for truth in truths)
    assert true / 1000 < 0.01
    assert named / 1000 < 0.003


@pytest.mark.parametrize(
    "caption",
    [
        "",
        ".",
        "circle",
        "red circle",
        "a red",
        "a a red circle",
        "a red red circle",
        "a small large red circle",
        "a red circle circle",
        "a red circles",
        "an red circle",
        "two red circle",
        "a red circle left of",
        "a red circle to the left a blue star",
        "a red circle left left of a blue star",
        "a red circle a blue star",
        "a red circle and",
        "a red circle , , a blue star",
        "and a red circle",
        "a red circle on the",
        "a red circle is",
        "a red circle is small and small",
        "a red circle and a blue star on a background",
        "a red circle on a grey background on a grey background",
        "a red circle on a grey grey background",
        "there is a red circle . it is it",
        "it is small",
        "there are a red circle",
        "there is two objects",
        "a red circle [UNK]",
        "a crimson circle",
        "a red circle and the red circle",
        "a red circle . the red circle .",
        "on the left",
        "an image of",
        "an image of an image of a red circle",
        "a red circle . . a blue star",
    ],
)
def test_broken_language_is_not_true(caption):
    assert not check(caption, TWO).wholly_true


@pytest.mark.parametrize(
    "caption",
    [
        "a red circle and a red circle",
        "two red circles",
        "a red circle left of a red circle",
        "a red circle , a blue star and a blue star",
        "a red star and a blue circle",
        "a blue star left of a red circle",
        "a red circle with a blue star above it",
        "a large red circle",
        "a plain red circle",
        "one object",
        "there are three objects",
        "a red circle on the right",
        "a red circle in the middle",
        "a plain grey background with a red circle",
        "the background is cluttered and mint . there is a red circle .",
        "there is a red circle . it is large .",
        "there is a red circle . the red circle is right of the blue star .",
        "there is a red circle . it is above it .",
    ],
)
def test_understood_and_false(caption):
    truth = check(caption, TWO)
    assert truth.claims
    assert not truth.unparsed
    assert not truth.wholly_true


@pytest.mark.parametrize(
    "caption",
    [
        "a circle",
        "the red circle is left of the blue star",
        "A red circle, and a blue star.",
        "a star and a tiny circle",
        "there are two objects , a red circle and a big star",
        "the image shows a red striped circle to the left of a plain blue star",
        "at the top there is a red circle and at the bottom a blue star",
        "on the left is the red circle",
        "a red circle is small and striped and above a blue star",
        "there is a circle and a star . the circle is red and it is small . the small circle is on the left .",
        "the background is grey . a circle is in the top left corner . it is above a star .",
        "there is a red circle . a blue star is right of it and under the circle .",
    ],
)
def test_tolerates_other_wordings(caption):
    assert check(caption, TWO).wholly_true, check(caption, TWO)


def test_alike_objects_are_told_apart_by_what_is_said_of_them():
    assert check("two red circles", ALIKE).coverage == 1
    assert check("a large red circle and a small red circle on the left", ALIKE).wholly_true
    assert not check("a large red circle and a small red circle on the right", ALIKE).wholly_true
    assert not check("two small red circles", ALIKE).wholly_true
    assert not check("a small red circle and a small red circle", ALIKE).wholly_true
    ambiguous = "there is a red circle on the left . there is a red circle on the right . the red circle is small ."
    assert check(ambiguous, ALIKE).unparsed == ("the",)


def test_says_what_is_wrong_and_what_is_missing():
    truth = check("a red circle in the middle", TWO)
    assert [claim.text for claim in truth.claims if not claim.holds] == ["red circle in the middle"]
    assert (truth.objects_named, truth.objects_total, truth.coverage) == (1, 2, 0.5)
    assert truth.missing == ("large plain blue star",)


def test_long_nonsense_is_judged_quickly():
    assert not check("a red circle and a blue star , " * 12, TWO).wholly_true


@quick
@given(st.lists(st.sampled_from(WORDS), max_size=20))
def test_any_words_get_a_verdict(words):
    truth = check(" ".join(words), TWO)
    assert truth.coverage in (0, 0.5, 1)
