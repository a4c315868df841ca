"""Karpathy's JSON: the published shapes, the real Flickr8k files, and what is wrong with a file that isn't one."""

import pytest
import torch
from tiny_run import karpathy_data, karpathy_entry, karpathy_tree, picture, write_json

from ladic.datamodules import KarpathyDataModule
from ladic.datamodules.cleaning import clean_caption
from ladic.errors import UsageError


def module(folder, entries, **options):
    write_json(folder / "dataset.json", {"images": entries, "dataset": "coco"})
    (folder / "images").mkdir(exist_ok=True)
    return KarpathyDataModule(**karpathy_data(folder, **options)["init_args"])


@pytest.fixture
def coco(tmp_path):
    """COCO as published: pictures in two folders, ids that are numbers, and a fourth split."""
    entries = []
    for cocoid, (split, where) in enumerate(
        [("train", "train2014"), ("restval", "val2014"), ("val", "val2014"), ("test", "val2014")], start=391895
    ):
        name = f"COCO_{where}_{cocoid:012d}.jpg"
        picture(tmp_path / "images" / where / name)
        entries.append(karpathy_entry(name, split, filepath=where, cocoid=cocoid, imgid=len(entries)))
    return module(tmp_path, entries)


def test_coco_counts_restval_as_training_and_knows_pictures_by_number(coco):
    train = coco.source("train")
    assert [train.image_id(index) for index in range(len(train))] == [391895, 391896]
    assert [coco.source(split).image_id(0) for split in ("val", "test")] == [391897, 391898]
    assert train.path(1).parent.name == "val2014"
    assert train.image(0).size == (40, 30)


def test_coco_in_one_flat_folder_is_found_too(tmp_path):
    picture(tmp_path / "images" / "COCO_val2014_7.jpg")
    data = module(tmp_path, [karpathy_entry("COCO_val2014_7.jpg", "val", filepath="val2014", cocoid=7)])
    assert data.source("val").image(0).mode == "RGB"


def test_flickr_is_flat_and_known_by_file_name(tmp_path):
    data = KarpathyDataModule(**karpathy_tree(tmp_path)["init_args"])
    assert [len(data.source(split)) for split in ("train", "val", "test")] == [8, 2, 2]
    assert data.source("val").image_id(1) == "val_1.jpg"
    assert len(data.source("val").captions(0)) == 5


def test_captions_are_lower_case_without_the_stop_that_flickr_sets_apart(tmp_path):
    assert clean_caption("A Dog   runs .") == clean_caption("a dog runs.") == "a dog runs"
    data = module(tmp_path, [karpathy_entry("x.jpg", "val", ["A man, smiling , waves ."])])
    assert data.source("val").captions(0) == ["a man, smiling , waves"]


def test_a_blank_caption_among_others_is_left_out(tmp_path):
    data = module(tmp_path, [karpathy_entry("x.jpg", "val", ["a dog", "  ", "."])])
    assert data.source("val").captions(0) == ["a dog"]


def test_the_validation_pictures_can_be_tested_on(tmp_path):
    entries = [karpathy_entry("x.jpg", "train"), karpathy_entry("y.jpg", "val")]
    with pytest.raises(UsageError, match=r"no pictures for test \(it has train 1, val 1\); --data.test_split=val"):
        module(tmp_path, entries).source("test")
    assert module(tmp_path, entries, test_split="val").source("test").image_id(0) == "y.jpg"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("\xff", "not JSON"),
        ([1, 2], "it has no list 'images'"),
        ({"annotations": []}, "it has no list 'images'"),
        ({"images": []}, "it has no list 'images'"),
        ({"images": ["x.jpg"]}, "image 0 has no 'filename'"),
        ({"images": [{"filename": "x.jpg", "split": "train"}]}, "image 0 has no 'sentences'"),
        ({"images": [{"filename": "x.jpg", "sentences": []}]}, "image 0 has no 'split'"),
        ({"images": [{"filename": "x.jpg", "split": "train", "sentences": ["a dog"]}]}, "has no text 'raw'"),
        ({"images": [{"filename": "x.jpg", "split": "train", "sentences": {}}]}, "'sentences' is a list"),
        ({"images": [{"filename": 3, "split": "train", "sentences": []}]}, "image 0"),
        ({"images": [karpathy_entry("../x.jpg", "train")]}, "'../x.jpg' leaves the folder"),
        ({"images": [karpathy_entry("/etc/x.jpg", "train")]}, "'/etc/x.jpg' leaves the folder"),
        ({"images": [karpathy_entry("x.jpg", "train", filepath="../..")]}, "leaves the folder"),
        ({"images": [karpathy_entry("x.jpg", "train", [])]}, r"'x.jpg' \(train\) has no caption"),
        ({"images": [karpathy_entry("x.jpg", "training")]}, r"'x.jpg': no split is called 'training'; accepted are tr"),
        ({"images": [karpathy_entry("x.jpg", "train", cocoid=[1])]}, r"'x.jpg': an image id is a whole number or text"),
        ({"images": [karpathy_entry("x.jpg", "train")] * 2}, r"the image id 'x.jpg' comes twice"),
        ({"images": [karpathy_entry("x.jpg", "train", [" ", "."])]}, r"'x.jpg' \(train\) has no caption"),
        ({"images": [karpathy_entry("x.jpg", "val")]}, r"no pictures for train \(it has val 1\)"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, content, message):
    file = tmp_path / "dataset.json"
    (tmp_path / "images").mkdir()
    if isinstance(content, str):
        file.write_bytes(content.encode("latin-1"))
    else:
        write_json(file, content)
    with pytest.raises(UsageError, match=message) as error:
        KarpathyDataModule(str(file), str(tmp_path / "images")).source("train")
    assert str(file) in str(error.value)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(UsageError, match=r"dataset_coco.json': no such file; give Karpathy's dataset_\*.json"):
        KarpathyDataModule(str(tmp_path / "dataset_coco.json"), str(tmp_path)).source("train")
    write_json(tmp_path / "dataset.json", {"images": [karpathy_entry("x.jpg", "train")]})
    with pytest.raises(UsageError, match=r"data.images='.*pictures': no such folder"):
        KarpathyDataModule(str(tmp_path / "dataset.json"), str(tmp_path / "pictures")).source("train")
    with pytest.raises(UsageError, match=r"x\.jpg': no such file"):
        KarpathyDataModule(str(tmp_path / "dataset.json"), str(tmp_path)).source("train").image(0)


def test_flickr8k_as_published(shared, tmp_path):
    data = KarpathyDataModule(str(shared / "data/flickr8k/dataset_flickr8k.json"), str(shared / "data/flickr8k/images"))
    train, val = data.source("train"), data.source("val")
    assert (len(train), len(val)) == (6000, 1000)
    for source in (train, val):
        assert all(len(source.captions(index)) == 5 for index in range(len(source)))
        assert len({source.image_id(index) for index in range(len(source))}) == len(source)
        assert all(source.path(index).is_file() for index in range(len(source)))
    assert torch.tensor([train.image(index).size for index in (0, 3000, 5999)]).min() > 100
    for caption in val.captions(0):
        assert caption == caption.lower().strip(" .")
