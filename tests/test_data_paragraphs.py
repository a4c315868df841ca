"""Stanford's paragraphs and Flickr's original files."""

import json

import pytest
from data_trees import (
    FLICKR,
    flickr_blip,
    flickr_pictures,
    flickr_tokens,
    genome_pictures,
    paragraph,
    stanford,
    stanford_as_coco,
)
from tiny_run import karpathy_entry, write_json

from ladic.datamodules import FlickrDataModule, FolderDataModule, StanfordParagraphDataModule
from ladic.errors import UsageError

pytestmark = pytest.mark.filterwarnings("ignore:data.annotations")


def flickr_karpathy(folder):
    """``dataset_flickr8k.json``."""
    entries = [karpathy_entry(name, split) for split, names in FLICKR.items() for name in names]
    return write_json(folder / "dataset_flickr8k.json", {"images": entries})


def module(tmp_path, annotations, flat=False, **options):
    images = genome_pictures(tmp_path / "pictures", flat)
    return StanfordParagraphDataModule(str(annotations), str(images), **options)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("shape", [stanford, stanford_as_coco])
def test_both_shapes_give_whole_paragraphs(tmp_path, shape, flat):
    data = module(tmp_path, shape(tmp_path / "text"), flat)
    for split, number in (("train", 2356347), ("val", 2346802), ("test", 2414610)):
        source = data.source(split)
        assert (len(source), source.image_id(0)) == (1, number)
        assert source.captions(0) == source.references(0) == [paragraph(number).strip()]
        assert len(source.captions(0)[0].split()) > 70
        assert source.image(0).size == (40, 30)


def test_of_a_picture_that_comes_twice_the_first_paragraph_stands(tmp_path):
    data = module(tmp_path, stanford(tmp_path / "text"))
    with pytest.warns(UserWarning, match="1 paragraphs are of pictures that had one before; the first stands"):
        assert data.source("train").captions(0) == [paragraph(2356347).strip()]
    data = module(tmp_path, stanford(tmp_path / "text"), duplicates="all")
    assert data.source("train").captions(0) == [paragraph(2356347).strip(), "Another paragraph of the first picture."]
    with pytest.raises(UsageError, match=r"data\.duplicates='last': accepted are 'first' and 'all'"):
        module(tmp_path, stanford(tmp_path / "text"), duplicates="last")


def test_of_a_picture_that_comes_twice_in_cocos_layout_too(tmp_path):
    folder = stanford_as_coco(tmp_path / "text")
    file = folder / "para_captions_train.json"
    content = json.loads(file.read_text())
    content["annotations"].append({**content["annotations"][0], "id": 0, "caption": "Another one."})
    write_json(file, content)
    for annotations in (folder, file):
        with pytest.warns(UserWarning, match="1 paragraphs are of pictures that had one before; the first stands"):
            assert module(tmp_path, annotations).source("train").captions(0) == [paragraph(2356347).strip()]
        both = module(tmp_path, annotations, duplicates="all").source("train")
        assert both.captions(0) == [paragraph(2356347).strip(), "Another one."]


@pytest.mark.parametrize("shape", [stanford, stanford_as_coco])
def test_lists_that_are_given_hold(tmp_path, shape):
    annotations = shape(tmp_path / "text")
    lists = write_json(tmp_path / "lists.json", {"train": [2346802, 2414610], "val": [2356347]})
    data = module(tmp_path, annotations, splits=str(lists))
    assert data.counts() == {"train": 2, "val": 1}
    assert data.source("val").image_id(0) == 2356347


def test_the_lists_may_lie_elsewhere_and_are_asked_for(tmp_path):
    file = stanford(tmp_path / "text")
    lists = tmp_path / "lists"
    lists.mkdir()
    for name in ("train", "val", "test"):
        (tmp_path / "text" / f"{name}_split.json").rename(lists / f"{name}_split.json")
    assert len(module(tmp_path, file, splits=str(lists)).source("val")) == 1
    with pytest.raises(UsageError, match=r"it names no splits; give --data.splits=FOLDER with train_split.json"):
        module(tmp_path, file).source("val")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, "not COCO's JSON"),
        ([], "not Stanford's JSON"),
        ([{"image_id": 1}], "entry 0 has no 'paragraph'"),
        ([{"image_id": None, "paragraph": "x"}], "an image id is a whole number or text, not None"),
        ([{"image_id": 1, "paragraph": 3}], "a caption is text, not 3"),
        ([{"image_id": "../1", "paragraph": "x"}], "leaves the folder of pictures"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, content, message):
    file = write_json(tmp_path / "text" / "paragraphs_train.json", content)
    with pytest.raises(UsageError, match=message):
        module(tmp_path, file).source("train")


def test_the_real_paragraphs_parse(shared, tmp_path):
    data = StanfordParagraphDataModule(str(shared / "data/paragraphs"), str(tmp_path))
    assert data.counts() == {"val": 2487, "test": 2489}
    lists = {split: (shared / f"data/paragraphs/{split}_split.json").read_text() for split in ("val", "test")}
    for split, listed in lists.items():
        source = data.source(split)
        assert {source.image_id(index) for index in range(len(source))} == set(map(int, listed.strip("[]").split(",")))
    val = data.source("val")
    longest = max(len(val.captions(index)[0].split()) for index in range(2487))
    assert longest > 200  # nothing was cut to 50 words
    assert data.records()[0].file == "VG_100K/2356347.jpg"


def test_the_three_lists_have_the_published_sizes(shared):
    from ladic.datamodules.readers.split_list import read_splits

    splits = read_splits(shared / "data/paragraphs", numbered=True)
    counts = {split: list(splits.values()).count(split) for split in ("train", "val", "test")}
    assert counts == StanfordParagraphDataModule.published["the published split"]


@pytest.mark.parametrize("inside", ["", "Flicker8k_Dataset", "flickr30k-images"])
@pytest.mark.parametrize("shape", [flickr_tokens, flickr_blip])
def test_flickrs_other_files(tmp_path, shape, inside):
    images = flickr_pictures(tmp_path / "pictures", inside)
    data = FlickrDataModule(str(shape(tmp_path / "text")), str(images))
    assert data.counts() == {"train": 2, "val": 1, "test": 1}
    assert [data.source("train").image_id(index) for index in range(2)] == ["1000_a.jpg", "1001_b.jpg"]
    assert data.source("test").captions(0) == [f"a dog says {n}" for n in range(5)]
    assert data.source("val").image(0).size == (40, 30)


@pytest.mark.parametrize("shape", [flickr_tokens, flickr_blip, flickr_karpathy])
def test_flickrs_lists_that_are_given_hold(tmp_path, shape):
    lists = write_json(tmp_path / "lists.json", {"train": ["1003_d.jpg"], "test": ["images/1000_a.jpg", "1002_c.jpg"]})
    images = flickr_pictures(tmp_path / "pictures")
    data = FlickrDataModule(str(shape(tmp_path / "text")), str(images), splits=str(lists))
    assert data.counts() == {"train": 1, "test": 2}
    assert data.source("train").image_id(0) == "1003_d.jpg"
    write_json(lists, {"train": ["gone.jpg"]})
    data = FlickrDataModule(str(shape(tmp_path / "text")), str(images), splits=str(lists))
    with pytest.raises(UsageError, match=r"none of its 1 images is in data\.annotations"):
        data.source("train")


@pytest.mark.parametrize(
    ("text", "message"), [("a.jpg\tA dog\n", "line 1 is not 'NAME#NUMBER<TAB>CAPTION'"), ("\n\n", "has no captions")]
)
def test_a_token_file_that_is_none(tmp_path, text, message):
    file = flickr_tokens(tmp_path / "text")
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        FlickrDataModule(str(file), str(tmp_path)).source("train")


def test_a_token_file_needs_lists(tmp_path):
    (tmp_path / "results.token").write_text("a.jpg#0\tA dog\n")
    with pytest.raises(UsageError, match=r"it names no splits; give --data.splits=FOLDER"):
        FlickrDataModule(str(tmp_path / "results.token"), str(tmp_path)).source("train")


def test_flickr8k_as_published_here(shared):
    folder = shared / "data/flickr8k"
    data = FlickrDataModule(str(folder / "dataset_flickr8k.json"), str(folder / "images"), test_split="val")
    assert data.counts() == {"train": 6000, "val": 1000}
    assert data.other_counts() is None, "test is not asked for, so nothing is missing"


def test_a_folder_is_for_prediction_alone(tmp_path):
    flickr_pictures(tmp_path / "my pictures", "summer ☀ 1")
    data = FolderDataModule(str(tmp_path / "my pictures"))
    source = data.source("test")
    assert [source.image_id(index) for index in range(2)] == ["summer ☀ 1/1000_a.jpg", "summer ☀ 1/1001_b.jpg"]
    assert source.image(1).size == (40, 30)
    for stage in ("fit", "test"):
        with pytest.raises(UsageError, match=f"no captions to {stage} with; use `ladic predict`"):
            data.setup(stage)
    with pytest.raises(UsageError, match="it has no split train"):
        data.source("train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no pictures in it"):
        FolderDataModule(str(tmp_path / "empty")).source("test")
    with pytest.raises(UsageError, match="no such folder"):
        FolderDataModule(str(tmp_path / "gone")).source("test")
