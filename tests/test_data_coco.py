"""COCO: every published shape gives the same pictures, ids and captions, and what is wrong in a file is said."""

import json
import warnings

import pytest
from data_trees import coco_blip, coco_captions, coco_karpathy, coco_own, coco_pictures, coco_split_lists
from tiny_run import write_json

from ladic.datamodules import CocoDataModule
from ladic.errors import UsageError

SHAPES = {
    "karpathy": lambda folder: {"annotations": coco_karpathy(folder)},
    "folder of karpathy": lambda folder: {"annotations": coco_karpathy(folder).parent},
    "blip": lambda folder: {"annotations": coco_blip(folder)},
    "blip without references": lambda folder: {"annotations": coco_blip(folder, truth=False)},
    "own, karpathy as list": lambda folder: {"annotations": coco_own(folder), "splits": coco_karpathy(folder / "k")},
    "own, lists": lambda folder: {"annotations": coco_own(folder), "splits": coco_split_lists(folder / "lists")},
    "own, mapping": lambda folder: {
        "annotations": coco_own(folder),
        "splits": write_json(folder / "s.json", {"train": [9, "25"], "val": [42], "test": ["val2014/C_73.jpg"]}),
    },
}  # fmt: skip


def module(tmp_path, flat=False, **paths):
    images = coco_pictures(tmp_path / "pictures", flat)
    return CocoDataModule(images=str(images), **{name: str(path) for name, path in paths.items()})


@pytest.mark.filterwarnings("ignore:data.annotations")
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_published_shape_gives_the_same_pictures(tmp_path, shape, flat):
    data = module(tmp_path, flat, **SHAPES[shape](tmp_path / "text"))
    assert data.counts() == {"train": 2, "val": 1, "test": 1}
    for split, numbers in (("train", [9, 25]), ("val", [42]), ("test", [73])):
        source = data.source(split)
        assert [source.image_id(index) for index in range(len(source))] == numbers
        for index, number in enumerate(numbers):
            assert source.captions(index)[1] == f"a dog number {number} , says b"
            assert source.references(index) == [" ".join(caption.split()) for caption in coco_captions(number)]
            assert source.image(index).size == (40, 30)
            assert f"{number:012d}" in source.path(index).name


@pytest.mark.filterwarnings("ignore:data.annotations")
def test_without_a_list_the_splits_are_cocos_own(tmp_path):
    data = module(tmp_path, annotations=coco_own(tmp_path / "text"))
    assert data.counts() == {"train": 1, "val": 3}


def test_other_counts_than_the_published_ones_are_told_once(tmp_path):
    data = module(tmp_path, annotations=coco_karpathy(tmp_path / "text"))
    with pytest.warns(UserWarning, match="test 1 pictures; COCO in Karpathy's split has train 113287, val 5000"):
        data.source("train")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.source("val")


@pytest.mark.filterwarnings("ignore:data.annotations")
@pytest.mark.parametrize(
    ("cleaning", "caption"),
    [
        ("none", "A Dog number 9 , says a ."),
        ("lower", "a dog number 9 , says a"),
        ("blip", "a dog number 9 , says a"),
        ("karpathy", "a dog number 9 says a"),
    ],
)
def test_cleaning_is_for_training_and_leaves_references_alone(tmp_path, cleaning, caption):
    data = module(tmp_path, annotations=coco_karpathy(tmp_path / "text"))
    data.cleaning = cleaning
    source = data.source("train")
    assert source.captions(0)[0] == caption
    assert source.references(0)[0] == "A Dog number 9 , says a ."


def test_karpathys_own_tokens_are_what_his_cleaning_gives(shared):
    from ladic.datamodules.cleaning import clean

    content = json.loads((shared / "data/flickr8k/dataset_flickr8k.json").read_text())
    sentences = [sentence for entry in content["images"] for sentence in entry["sentences"]]
    assert len(sentences) == 35000
    assert all(clean(sentence["raw"], "karpathy").split() == sentence["tokens"] for sentence in sentences)


def test_references_of_coco_are_tokenised_as_the_raw_ones(shared):
    """Lower case without the last stop, as for training, would change eight of them ("… the Nintendo Wii U.")."""
    from ladic.datamodules.cleaning import clean_caption, clean_reference
    from ladic.metrics.functional.ptb_tokenizer import ptb_tokenize

    content = json.loads((shared / "data/coco/karpathy_test_refs.json").read_text())
    raw = [caption for entry in content for caption in entry["caption"]][:5000]
    assert all(ptb_tokenize(clean_reference(caption)) == ptb_tokenize(caption) for caption in raw)
    assert any(ptb_tokenize(clean_caption(caption)) != ptb_tokenize(caption) for caption in raw)


def test_the_real_test_references_parse(shared, tmp_path):
    data = CocoDataModule(str(shared / "data/coco/karpathy_test_refs.json"), str(tmp_path))
    with pytest.warns(UserWarning, match="test 5000 pictures"):
        source = data.source("test")
    assert (len(source), source.image_id(0)) == (5000, 391895)
    assert sum(len(source.references(index)) for index in range(len(source))) == 25010
    assert source.references(0)[2] == "A man riding on the back of a motorcycle."


CAPTIONS = "captions_train2014.json"
COCO_JSON = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "caption": "a dog"}]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (CAPTIONS, {**COCO_JSON, "images": []}, "it has no lists 'images' and 'annotations'"),
        (CAPTIONS, {**COCO_JSON, "images": [{"id": 1}]}, "image 0 has no 'file_name'"),
        (CAPTIONS, {**COCO_JSON, "images": COCO_JSON["images"] * 2}, "image 1: the image id 1 comes twice"),
        (CAPTIONS, {**COCO_JSON, "images": [{"id": 1.5, "file_name": "a.jpg"}]}, "a whole number or text"),
        (CAPTIONS, {**COCO_JSON, "images": [{"id": 1, "file_name": ["a"]}]}, "a picture's file is text"),
        (CAPTIONS, {**COCO_JSON, "images": [{"id": 1, "file_name": "../a"}]}, "leaves the folder"),
        (CAPTIONS, {**COCO_JSON, "annotations": [{"image_id": 2, "caption": "x"}]}, "first of 2"),
        (CAPTIONS, {**COCO_JSON, "annotations": [{"image_id": 1, "caption": 5}]}, "a caption is text, not 5"),
        (CAPTIONS, {**COCO_JSON, "annotations": [{"caption": "x"}]}, "annotation 0 has no 'image_id'"),
        (CAPTIONS, {**COCO_JSON, "annotations": []}, r"'a.jpg' \(train\) has no caption"),
        ("captions_all.json", COCO_JSON, "its name doesn't say which split it is"),
        ("coco_karpathy_train.json", [], "not BLIP's JSON"),
        ("coco_karpathy_train.json", ["a"], "entry 0 has no 'image'"),
        ("coco_karpathy_train.json", [{"image": "a.jpg", "caption": None}], "a caption is text, not None"),
        ("coco_karpathy_train.json", "[{", "not JSON .* is the download complete"),
        ("dataset_coco.json", "{", "not JSON"),
        ("dataset_coco.json", {"images": []}, "no list 'images'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said(tmp_path, name, content, message):
    file = tmp_path / name
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UsageError, match=message) as told:
        CocoDataModule(str(file), str(tmp_path)).source("train")
    assert "data.annotations=" in str(told.value)


@pytest.mark.filterwarnings("ignore:data.annotations")
def test_ids_as_text_are_the_numbers_they_say(tmp_path):
    content = json.loads(json.dumps(COCO_JSON).replace("1", '"1"'))
    data = CocoDataModule(str(write_json(tmp_path / CAPTIONS, content)), str(tmp_path))
    assert data.source("train").image_id(0) == 1


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": [9], "vall": [42]}, r"no split is called 'vall'; accepted are train, restval, val"),
        ({"train": [9], "val": [9]}, "9 is in train and in val"),
        ({"train": [777]}, "none of its 1 images is in data.annotations"),
        ({"train": "all"}, r'not {"train": \[\.\.\.\]'),
        ([1], r'not {"train": \[\.\.\.\]'),
        ({"train": [None]}, "an image id is a whole number or text, not None"),
    ],
)
def test_a_list_of_splits_that_is_none(tmp_path, splits, message):
    file = write_json(tmp_path / "splits.json", splits)
    with pytest.raises(UsageError, match=message):
        module(tmp_path, annotations=coco_own(tmp_path / "text"), splits=file).source("train")


def test_folders_without_the_files_name_what_is_expected(tmp_path):
    with pytest.raises(UsageError, match="none of the known files is in it; give dataset_coco"):
        CocoDataModule(str(tmp_path), str(tmp_path)).source("train")
    with pytest.raises(UsageError, match="no lists like train_split"):
        module(tmp_path, annotations=coco_own(tmp_path / "text"), splits=tmp_path).source("train")
    (tmp_path / "train.txt").write_text("a\n")
    (tmp_path / "x_train.txt").write_text("a\n")
    with pytest.raises(UsageError, match=r"train.txt and x_train.txt are both lists for train"):
        module(tmp_path, annotations=tmp_path / "text", splits=tmp_path).source("train")


def test_references_of_other_pictures_are_refused(tmp_path):
    folder = coco_blip(tmp_path / "text")
    write_json(folder / "coco_karpathy_val_gt.json", {"annotations": [{"image_id": 1, "caption": "x"}], "images": []})
    with pytest.raises(UsageError, match=r"1 pictures of coco_karpathy_val.json are not in it, the first is 42"):
        module(tmp_path, annotations=folder).source("train")
