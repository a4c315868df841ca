"""What every datamodule does with its captions and pictures: units, limits, preparation, batches."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import karpathy_data, karpathy_entry, karpathy_tree, picture, write_json

from ladic.components.image_encoders import ConvEncoder, TimmEncoder
from ladic.datamodules import KarpathyDataModule, ShapesDataModule
from ladic.datamodules.broken import without_broken
from ladic.datamodules.items import Collate
from ladic.datamodules.order import Draw
from ladic.datamodules.token_table import TokenTable
from ladic.datamodules.transforms import to_tensor
from ladic.errors import UsageError
from ladic.testing import tiny_text_space
from ladic.types import ImagePreprocess

PLAIN = ImagePreprocess(size=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), interpolation="bilinear")


class Captioner:
    """What a datamodule asks of a model."""

    device = torch.device("cpu")

    def __init__(self, preprocess=PLAIN, length=12):
        self.preprocess = preprocess
        self.space = tiny_text_space()
        self.space.length = length

    def tokenize(self, captions):
        return self.space.tokenize(captions)

    def token_lengths(self, captions):
        return self.space.token_lengths(captions)

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
    with pytest.raises(UsageError, match=r"data\.num_workers=-1: need at least 0"):
        ShapesDataModule(num_workers=-1)
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


def test_token_ids_made_beforehand_are_the_tokenizers(tmp_path):
    captioner = Captioner()
    captions = ["a red circle", "a red square", "circle", "", "red " * 40]
    table = TokenTable(captions, captioner)
    rows = [4, 0, 3, 2, 1, 0]
    made, asked = table.rows(rows), captioner.tokenize([captions[row] for row in rows])
    assert torch.equal(made.input_ids, asked.input_ids)
    assert torch.equal(made.attention_mask, asked.attention_mask)
    assert table.lengths.tolist() == captioner.tokenize(captions).attention_mask.sum(1).tolist()
    assert (table.cut, table.longest, len(table)) == (1, 42, 5)


@pytest.mark.parametrize("unit", ["caption", "image"])
def test_token_ids_of_a_batch_are_those_of_its_captions(tmp_path, unit):
    data = ready(flickr(tmp_path, unit=unit))
    items = data.train_dataloader().dataset
    for number in range(5):
        draw = Draw(3, number)
        batch = Collate(data.captioner, items.tokens)([items[draw]])
        captions = items.source.captions(3 if unit == "image" else 0)
        asked = data.captioner.tokenize([captions[number if unit == "image" else 3]])
        assert torch.equal(batch["input_ids"], asked.input_ids)


def test_captions_that_are_cut_are_counted_and_told_once(tmp_path):
    data = flickr(tmp_path)
    with pytest.warns(UserWarning, match=r"40 of 40 training captions \(100 %\) are longer than .* 3 t") as told:
        ready(data, Captioner(length=3))
    assert len(told) == 1
    assert "--model.latent_space.length sets it" in str(told[0].message)


def test_batches_grouped_by_length_are_and_visit_everything(tmp_path):
    words = ["red"] * 12
    entries = []
    for number in range(12):
        picture(tmp_path / "images" / f"{number}.png")
        entries.append(karpathy_entry(f"{number}.png", "train", [" ".join(words[: number % 6 + 1])]))
    entries.append({**entries[0], "split": "val", "filename": "0.png"})
    write_json(tmp_path / "dataset.json", {"images": entries})
    settings = {"batch_size": 2, "unit": "caption", "group_by_length": True}
    data = ready(KarpathyDataModule(**karpathy_data(tmp_path, **settings)["init_args"]))
    batches = list(data.train_dataloader())
    assert sorted(image_id for batch in batches for image_id in batch["image_id"]) == sorted(
        f"{n}.png" for n in range(12)
    )
    assert all(len(set(batch["attention_mask"].sum(1).tolist())) == 1 for batch in batches)
    lengths = [int(batch["attention_mask"][0].sum()) for batch in batches]
    assert lengths != sorted(lengths), "batches come in random order"


def test_wrong_data_options_are_refused():
    for options, message in [
        ({"augment": "flip"}, "data.augment='flip': accepted are none, crop, crop-flip"),
        ({"skip_broken": 1.0}, "data.skip_broken=1.0: a share"),
        ({"unit": "image", "group_by_length": True}, "give data.unit=caption"),
    ]:
        with pytest.raises(UsageError, match=message):
            ShapesDataModule(**options)
    with pytest.raises(UsageError, match="have no lengths yet"):
        ready(ShapesDataModule(num_train=4, unit="caption", group_by_length=True)).train_dataloader()


def broken_tree(tmp_path, **options):
    data = flickr(tmp_path, unit="image", **options)
    (tmp_path / "images" / "train_2.jpg").write_bytes(b"")
    (tmp_path / "images" / "train_5.jpg").unlink()
    return data


def test_broken_training_pictures_are_left_out_up_to_a_share_and_listed(tmp_path):
    data = broken_tree(tmp_path, skip_broken=0.25)
    with pytest.warns(UserWarning, match=r"2 of 8 pictures of train are broken \(25 %\), the first: .*train_2\.jpg"):
        loader = ready(data).train_dataloader()
    seen = {image_id for _ in range(4) for batch in loader for image_id in batch["image_id"]}
    assert seen == {f"train_{number}.jpg" for number in (0, 1, 3, 4, 6, 7)}, "left out, and nothing in their place"


def test_more_broken_pictures_than_stated_stop_the_run(tmp_path):
    with pytest.raises(UsageError, match=r"data\.skip_broken=0\.2: 2 of 8 pictures of train are broken"):
        ready(broken_tree(tmp_path, skip_broken=0.2))
    data = ready(flickr(tmp_path / "other", unit="image"))
    (tmp_path / "other" / "images" / "train_2.jpg").write_bytes(b"")
    with pytest.raises(UsageError, match=r"train_2\.jpg': an empty file; --data\.skip_broken=SHARE leaves broken"):
        list(data.train_dataloader())


def test_the_list_of_broken_pictures_is_kept_and_used_again(tmp_path, capsys):
    source, folder = broken_tree(tmp_path).source("train"), tmp_path / "run"
    with pytest.warns(UserWarning, match=r"all are listed in .*broken_train\.json"):
        assert len(without_broken(source, 0.5, folder)) == 6
    picture(tmp_path / "images" / "train_5.jpg")
    with pytest.warns(UserWarning, match="2 of 8"):
        without_broken(source, 0.5, folder)
    assert "remove it to look again" in capsys.readouterr().err
    (folder / "broken_train.json").unlink()
    with pytest.warns(UserWarning, match="1 of 8"):
        without_broken(source, 0.5, folder)


def test_a_broken_picture_stops_evaluation_whatever_share_is_stated(tmp_path):
    data = ready(flickr(tmp_path, skip_broken=0.9))
    (tmp_path / "images" / "val_0.jpg").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"val_0\.jpg': not a picture that Pillow can read$"):
        list(data.val_dataloader())
