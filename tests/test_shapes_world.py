"""Scenes keep their promises, pictures show them, and a split is the same in every run."""

import hashlib

import numpy as np
import pytest

from ladic.datamodules.shapes import VOCABULARY, Scene, SceneObject, ShapesSource, draw, random_scene
from ladic.datamodules.shapes.draw import PALETTE, TINT_PALETTE
from ladic.datamodules.shapes.scene import COLOURS, SHAPES, SIZES, TEXTURES
from ladic.errors import UsageError

SCENES = [random_scene(np.random.default_rng(seed)) for seed in range(300)]


def test_nothing_sayable_is_borderline():
    for scene in SCENES:
        for thing in scene.objects:
            assert all(abs(value - limit) > 0.035 for value in (thing.x, thing.y) for limit in (0.4, 0.6))
            assert all(thing.radius < value < 1 - thing.radius for value in (thing.x, thing.y))
        for i, a in enumerate(scene.objects):
            for b in scene.objects[:i]:
                assert all(abs(abs(offset) - 0.11) > 0.035 for offset in (a.x - b.x, a.y - b.y))


def test_every_look_occurs():
    things = [thing for scene in SCENES for thing in scene.objects]
    for name, values in (("shape", SHAPES), ("colour", COLOURS), ("size", SIZES), ("texture", TEXTURES)):
        assert {getattr(thing, name) for thing in things} == set(values)
    assert {len(scene.objects) for scene in SCENES} == {1, 2, 3}


def test_colours_are_told_apart_from_each_other_and_from_the_background():
    paints = [np.array(paint) for paint in (*PALETTE.values(), *TINT_PALETTE.values())]
    closest = min(np.linalg.norm(a - b) for i, a in enumerate(paints) for b in paints[:i])
    assert closest > 40  # the two closest are tints, which need only differ from each other
    tints = [np.array(tint) for tint in TINT_PALETTE.values()]
    assert min(np.linalg.norm(np.array(paint) - tint) for paint in PALETTE.values() for tint in tints) > 95


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [64, 97])
def test_a_shape_fills_its_box_and_touches_nothing_else(shape, size):
    thing = SceneObject(shape, "black", "large", "plain", 0.5, 0.5)
    rows, columns = np.nonzero(draw(Scene((thing,), "grey", False), size)[..., 0] < 90)
    for low, high in ((rows.min(), rows.max()), (columns.min(), columns.max())):
        assert 0.85 < (high - low + 1) / (2 * thing.radius * size) < 1.06


def test_shapes_cover_different_pixels():
    def inside(shape):
        return draw(Scene((SceneObject(shape, "black", "small", "plain", 0.5, 0.5),), "grey", False))[..., 0] < 90

    for i, a in enumerate(SHAPES):
        for b in SHAPES[:i]:
            overlap = (inside(a) & inside(b)).sum() / (inside(a) | inside(b)).sum()
            assert overlap < 0.86, (a, b)


@pytest.mark.parametrize("texture", ["striped", "dotted"])
@pytest.mark.parametrize("colour", COLOURS)
def test_textures_show_on_every_colour(texture, colour):
    plain, marked = (
        draw(Scene((SceneObject("circle", colour, "small", name, 0.5, 0.5),), "grey", False)).astype(int)
        for name in ("plain", texture)
    )
    assert (np.abs(plain - marked).max(-1) > 80).sum() > 20
    assert (np.abs(plain - marked).max(-1)[plain[..., 0] != 165] < 40).mean() > 0.4  # the colour itself prevails


def test_clutter_is_faint():
    scene = SCENES[0].objects
    clean, cluttered = (draw(Scene(scene, "mint", flag, 7)).astype(int) for flag in (False, True))
    assert 10 < np.abs(clean - cluttered).max() < 35
    assert np.abs(clean - cluttered).max(-1).mean() > 3


def test_pictures_follow_size():
    small, large = draw(SCENES[3], 64), draw(SCENES[3], 256)
    shrunk = large.reshape(64, 4, 64, 4, 3).mean((1, 3))
    assert np.abs(small - shrunk).mean() < 3


def test_a_split_is_the_same_everywhere():
    source = ShapesSource("train", 50)
    text = "\n".join(caption for index in range(50) for caption in source.captions(index))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "2f7016a71b8ad5d6", "the data set has changed: say so"
    assert source.captions(7) == ShapesSource("train", 8).captions(7)
    assert np.array_equal(source.image(7), ShapesSource("train", 8).image(7))


def test_splits_and_seeds_share_no_scene():
    sources = [ShapesSource(split, 200, seed) for split in ("train", "val", "test") for seed in (0, 1)]
    scenes = [source.scene(index) for source in sources for index in range(200)]
    assert len(set(scenes)) == len(scenes)
    assert len({(source.seed, source.image_id(i)) for source in sources for i in range(200)}) == len(scenes)


def test_paragraphs_and_captions_speak_the_vocabulary():
    source, paragraphs = ShapesSource("val", 100), ShapesSource("val", 100, paragraphs=True)
    captions = [caption for index in range(100) for caption in source.captions(index)]
    texts = [text for index in range(100) for text in paragraphs.captions(index)]
    assert len(captions) == 500
    assert len(texts) == 100
    assert max(len(caption.split()) for caption in captions) <= 22
    assert max(len(text.split()) for text in texts) <= 64
    assert {word for text in captions + texts for word in text.split()} <= set(VOCABULARY)
    assert len(VOCABULARY) <= 80


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"split": "dev"}, "split='dev' is not a split"),
        ({"num_scenes": 0}, "num_scenes=0"),
        ({"seed": -1}, "seed=-1"),
        ({"size": 4}, "size=4"),
    ],
)
def test_wrong_arguments_are_named(arguments, words):
    with pytest.raises(UsageError, match=words):
        ShapesSource(**{"split": "train", "num_scenes": 3, **arguments})


def test_an_index_past_the_end_is_refused():
    with pytest.raises(IndexError):
        ShapesSource("train", 3).image(3)
