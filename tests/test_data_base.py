"""What every datamodule does with its captions and pictures: units, limits, preparation, batches."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import karpathy_data, karpathy_entry, karpathy_tree, picture, write_json

from ladic.components.image_encoders import ConvEncoder, TimmEncoder
from ladic.datamodules import KarpathyDataModule, ShapesDataModule
from ladic.datamodules.images import open_image
from ladic.datamodules.transforms import to_tensor
from ladic.errors import UsageError
from ladic.testing import tiny_text_space
from ladic.types import ImagePreprocess

PLAIN = ImagePreprocess(size=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), interpolation="bilinear")


class Captioner:
    """The three things that a datamodule asks of a model."""

    def __init__(self, preprocess=PLAIN):
        self.preprocess = preprocess
        self.space = tiny_text_space()

    def tokenize(self, captions):
        return self.space.tokenize(captions)

    def encoder_fingerprint(self):
        return {}


def ready(data, captioner=None, stage="fit"):
    data.bind(captioner or Captioner())
    data.setup(stage)
    return data


def flickr(tmp_path, **options):
    karpathy_tree(tmp_path)
    return KarpathyDataModule(**karpathy_data(tmp_path, **options)["init_args"])


def test_an_epoch_visits_every_caption_or_every_picture_once(tmp_path):
    by_caption = ready(flickr(tmp_path, unit="caption")).train_dataloader()
    ids = [image_id for batch in by_caption for image_id in batch["image_id"]]
    assert (len(ids), len(set(ids))) == (40, 8)
    by_image = ready(flickr(tmp_path, unit="image")).train_dataloader()
    ids = [image_id for batch in by_image for image_id in batch["image_id"]]
    assert len(ids) == len(set(ids)) == 8


def test_by_picture_every_caption_has_its_turn(tmp_path):
    words = [["red"], ["circle"], ["square"]]
    picture(tmp_path / "images" / "x.png")
    entry = karpathy_entry("x.png", "train", [word for (word,) in words])
    write_json(tmp_path / "dataset.json", {"images": [entry, {**entry, "split": "val"}]})
    data = ready(KarpathyDataModule(**karpathy_data(tmp_path, unit="image")["init_args"]))
    loader = data.train_dataloader()  # each pass over it is another epoch
    seen = {tuple(batch["input_ids"][0].tolist()) for _ in range(40) for batch in loader}
    assert len(seen) == 3


def test_limits_count_pictures(tmp_path):
    data = ready(flickr(tmp_path, limit_train=2, limit_eval=1))
    assert len(data.train_dataloader().dataset) == 10
    assert len(data.val_dataloader().dataset) == 1
    assert [data.split(name).image_id(0) for name in ("train", "test")] == ["train_0.jpg", "test_0.jpg"]
    assert len(data.train_captions()) == 10
    assert len(data.train_captions(7)) == 7
    assert len(ready(flickr(tmp_path, limit_train=10**6)).train_dataloader().dataset) == 40


@pytest.mark.parametrize("option", ["limit_train", "limit_eval"])
def test_a_limit_below_one_is_refused(option):
    with pytest.raises(UsageError, match=f"data.{option}=0: need at least 1"):
        ShapesDataModule(**{option: 0})


def test_wrong_sizes_and_units_are_refused():
    with pytest.raises(UsageError, match=r"data\.batch_size=0: need at least 1"):
        ShapesDataModule(batch_size=0)
    with pytest.raises(UsageError, match=r"data\.unit='word': accepted are 'caption' and 'image'"):
        ShapesDataModule(unit="word")
    with pytest.raises(UsageError, match="bind"):
        ShapesDataModule(num_train=4).setup("fit")


def test_training_sees_tokens_and_evaluation_sees_references(tmp_path):
    data = ready(flickr(tmp_path))
    train, val = next(iter(data.train_dataloader())), next(iter(data.val_dataloader()))
    assert set(train) == {"image_id", "image", "input_ids", "attention_mask"}
    assert train["image"].shape == (4, 3, 8, 8)
    assert train["input_ids"].shape == train["attention_mask"].shape == (4, 12)
    assert set(val) == {"image_id", "image", "references", "caption"}
    assert val["image_id"] == ["val_0.jpg", "val_1.jpg"]
    assert [len(references) for references in val["references"]] == [5, 5]


def test_a_training_set_smaller_than_a_batch_is_one_batch(tmp_path):
    assert len(list(ready(flickr(tmp_path, batch_size=1000)).train_dataloader())) == 1


def test_worker_processes_give_the_same_pictures(tmp_path):
    (alone,), (worker,) = (list(ready(flickr(tmp_path, num_workers=workers)).val_dataloader()) for workers in (0, 1))
    assert torch.equal(alone["image"], worker["image"])
    assert alone["references"] == worker["references"]


def test_pictures_are_prepared_as_the_encoder_says():
    image = Image.new("RGB", (20, 10), (255, 0, 51))
    for encoder in (ConvEncoder(image_size=32), TimmEncoder("resnet10t", image_size=64)):
        wanted = encoder.preprocess
        tensor = to_tensor(image, wanted)
        assert tensor.shape == (3, wanted.size, wanted.size)
        values = (torch.tensor([1.0, 0.0, 0.2]) - torch.tensor(wanted.mean)) / torch.tensor(wanted.std)
        torch.testing.assert_close(tensor.mean((1, 2)), values)
    assert ConvEncoder(image_size=32).preprocess.size == 32


def test_a_picture_of_the_right_size_is_not_resampled():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    tensor = to_tensor(Image.fromarray(pixels), PLAIN)
    assert torch.equal((tensor * 255).round().byte(), torch.from_numpy(pixels).permute(2, 0, 1))


def test_a_picture_is_turned_as_its_exif_says(tmp_path):
    image = Image.new("RGB", (40, 20), "white")
    image.paste((0, 0, 0), (0, 0, 20, 20))  # black on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned right by a quarter: black on top
    image.save(tmp_path / "turned.png", exif=exif)
    opened = open_image(tmp_path / "turned.png")
    assert opened.size == (20, 40)
    assert opened.getpixel((10, 5)) == (0, 0, 0)
    assert opened.getpixel((10, 35)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "YCbCr"])
def test_every_kind_of_picture_becomes_rgb(tmp_path, mode):
    image = Image.new("L", (10, 10), 200).convert("I").convert("I;16") if mode == "I;16" else None
    image = image or Image.new("RGB", (10, 10), (255, 255, 255)).convert(mode)
    file = tmp_path / f"x.{'jpg' if mode in ('CMYK', 'YCbCr') else 'png'}"
    image.save(file)
    opened = open_image(file)
    assert (opened.mode, opened.size) == ("RGB", (10, 10))
    if mode != "I;16":
        assert min(opened.getpixel((5, 5))) > 250


def test_sixteen_bit_greys_keep_their_brightness(tmp_path):
    Image.fromarray(np.full((10, 10), 0x8000, dtype=np.uint16)).save(tmp_path / "x.png")
    assert 120 < open_image(tmp_path / "x.png").getpixel((5, 5))[0] < 136


def test_transparent_pixels_do_not_show_what_they_hide(tmp_path):
    Image.new("RGBA", (10, 10), (255, 0, 0, 0)).save(tmp_path / "x.png")
    assert open_image(tmp_path / "x.png").getpixel((5, 5)) == (255, 255, 255)
