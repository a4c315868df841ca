"""Shards: order follows from seed, epoch, step and reader; a stopped run goes on with the samples that were left."""

import io
import json
import tarfile

import pytest
from PIL import Image
from test_data_base import Captioner

from ladic.datamodules import WebDatasetDataModule
from ladic.datamodules.shards import EvaluationShards, TrainingShards
from ladic.datamodules.webdataset import ShardLoader
from ladic.errors import UsageError


def jpeg(colour="red"):
    file = io.BytesIO()
    Image.new("RGB", (20, 10), colour).save(file, "JPEG")
    return file.getvalue()


def shard(path, samples):
    """A tar file of (name, {ending: bytes})."""
    with tarfile.open(path, "w") as tar:
        for name, files in samples:
            for ending, content in files.items():
                entry = tarfile.TarInfo(f"{name}.{ending}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return str(path)


def training_shards(folder, number):
    """So many shards of four samples, in a folder; the folder."""
    for each in range(number):
        samples = [(f"s{each}_{n}", {"jpg": jpeg(), "txt": b"red circle\ngreen square\n"}) for n in range(4)]
        shard(folder / f"train-{each}.tar", samples)
    return folder


@pytest.fixture
def shards(tmp_path):
    return training_shards(tmp_path, 6)


def files(folder):
    return [str(path) for path in sorted(folder.glob("train-*.tar"))]


def loader(folder, *, workers=0, start=0, epoch=0, rank=0, world=1, batches=None, **options):
    settings = {"seed": 1, "batch_size": 2, "rank": rank, "world_size": world, "buffer": 3, **options}
    data = TrainingShards(files(folder), Captioner(), batches=batches or 12 // world, **settings)
    return ShardLoader(data, epoch, start, workers)


def ids(batches):
    return [batch["image_id"] for batch in batches]


def test_an_epoch_of_equal_shards_visits_every_sample_once_and_the_next_in_another_order(shards):
    stream = loader(shards)
    first = ids(stream)
    stream.sampler.set_epoch(1)  # as Lightning does
    second = ids(stream)
    assert len(stream) == len(first) == 12
    assert len({one for batch in first for one in batch}) == 24
    assert sorted(sum(first, [])) == sorted(sum(second, []))  # noqa: RUF017
    assert first != second
    assert ids(loader(shards)) == first
    assert ids(loader(shards, seed=2)) != first


@pytest.mark.parametrize(("workers", "world"), [(0, 2), (2, 1), (3, 2)])
def test_readers_share_the_shards(shards, workers, world):
    seen = [
        one
        for rank in range(world)
        for batch in ids(loader(shards, workers=workers, rank=rank, world=world))
        for one in batch
    ]
    assert len(seen) == len(set(seen)) == 24


@pytest.mark.parametrize(("workers", "start"), [(0, 5), (2, 1), (2, 4), (3, 7)])
def test_a_stopped_run_goes_on_with_what_was_left(shards, workers, start):
    whole = list(loader(shards, workers=workers, epoch=1))
    rest = list(loader(shards, workers=workers, epoch=1, start=start))
    assert ids(rest) == ids(whole)[start:]
    for left, batch in zip(rest, whole[start:], strict=True):
        assert left["input_ids"].tolist() == batch["input_ids"].tolist(), "the same caption is drawn"
    again = loader(shards, workers=workers, start=start)
    again.sampler.set_epoch(0)
    assert ids(again) == ids(again), "looking at it doesn't move it"
    again.sampler.set_epoch(1)
    assert ids(again) == ids(whole), "the next epoch is a whole one"


def test_a_reader_with_too_few_samples_begins_again(shards):
    seen = [one for batch in ids(loader(shards, batches=20)) for one in batch]
    assert len(set(seen[:24])) == 24
    assert len(seen) == 40


@pytest.mark.parametrize(("workers", "world"), [(0, 1), (2, 1), (2, 2), (0, 3)])
def test_evaluation_reads_every_sample_once(shards, workers, world):
    data = WebDatasetDataModule(val=str(shards / "train-{0..5}.tar"), num_workers=workers, eval_batch_size=5)
    data.bind(Captioner())
    data.setup("validate")
    seen = []
    for rank in range(world):
        stream = data.val_dataloader()
        stream.dataset.rank, stream.dataset.world_size = rank, world
        for batch in stream:
            seen += batch["image_id"]
            assert set(batch) == {"image_id", "image", "references", "caption"}
    assert len(seen) == len(set(seen)) == 24
    assert len(list(EvaluationShards(files(shards), Captioner(), limit=5))) == 5


def validation(pattern, **options):
    """Ids of the batches that each of some ranks validates on."""
    world = options.pop("world", 1)
    return [ids(loader_of(rank, world, val=str(pattern), **options)) for rank in range(world)]


def loader_of(rank, world, **options):
    """One rank's validation."""
    data = WebDatasetDataModule(**options)
    data.bind(Captioner())
    stream = data.val_dataloader()
    stream.dataset.rank, stream.dataset.world_size = rank, world
    return stream


@pytest.mark.parametrize(
    ("sizes", "world", "options"),
    [([9], 2, {}), ([9], 4, {}), ([1], 3, {}), ([9, 1, 0], 2, {"num_workers": 3}), ([3], 2, {"num_workers": 2}),
     ([0], 2, {}), ([9, 9], 2, {"limit_eval": 5, "num_workers": 2})],
)  # fmt: skip
def test_every_rank_validates_as_many_batches_and_every_sample_comes(tmp_path, sizes, world, options):
    for number, size in enumerate(sizes):
        samples = [(f"{number}_{n}", {"jpg": jpeg(), "txt": b"red"}) for n in range(size)]
        shard(tmp_path / f"val-{number}.tar", samples)
    ranks = validation(tmp_path / "val-*.tar", world=world, eval_batch_size=4, **options)
    assert len({tuple(map(len, batches)) for batches in ranks}) == 1, "a rank with fewer would leave the others waiting"
    seen = [one for batches in ranks for batch in batches for one in batch]
    every = [f"{number}_{n}" for number, size in enumerate(sizes) for n in range(size)]
    assert set(seen) == set(every[: options.get("limit_eval")])
    assert len(seen) - len(set(seen)) < world * max(1, options.get("num_workers", 1))


@pytest.mark.parametrize(("workers", "world"), [(0, 1), (2, 1), (0, 2), (2, 2)])
def test_samples_of_one_name_are_refused(tmp_path, workers, world):
    samples = [(name, {"jpg": jpeg(), "txt": b"red"}) for name in "0120"]
    shard(tmp_path / "val-0.tar", samples[:1])
    shard(tmp_path / "val-1.tar", samples[1:])
    for rank in range(world):  # each by itself: the others would wait for one that knows of nothing
        loader = loader_of(rank, world, val=str(tmp_path / "val-*.tar"), num_workers=workers)
        with pytest.raises(
            UsageError, match=r"val-1\.tar': a sample called '0' is in '.*val-0\.tar' already; .* its image"
        ):
            ids(loader)


def test_captions_may_lie_in_json(tmp_path):
    samples = [("a", {"png": jpeg(), "json": json.dumps({"captions": ["red  circle", " "]}).encode()}),
               ("b", {"webp": jpeg(), "json": json.dumps({"caption": "square"}).encode()})]  # fmt: skip
    data = WebDatasetDataModule(train=shard(tmp_path / "x.tar", samples))
    assert data.train_captions() == ["red circle", "square"]
    assert data.train_captions(1) == ["red circle"]


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"jpg": jpeg()}, "sample 'x' has no caption: it needs a .txt"),
        ({"jpg": jpeg(), "json": b"[1]"}, "sample 'x' has no caption"),
        ({"jpg": jpeg(), "json": b"{"}, "its captions can't be read"),
        ({"txt": b"a dog"}, "the sample has no picture"),
        ({"jpg": jpeg()[:200], "txt": b"a dog"}, r"x\.jpg': (broken|not a picture)"),
    ],
)
def test_what_is_wrong_with_a_sample_is_said(tmp_path, sample, message):
    shard(tmp_path / "train-0.tar", [("x", sample)])
    with pytest.raises(UsageError, match=message) as told:
        list(loader(tmp_path, batches=1))
    assert "train-0.tar" in str(told.value)


def test_broken_samples_are_left_out_up_to_a_share(shards, capsys):
    shard(
        shards / "train-3.tar", [(f"s3_{n}", {"jpg": jpeg()[: 300 if n else 99999], "txt": b"red"}) for n in range(4)]
    )
    with pytest.raises(UsageError, match=r"data\.skip_broken=0: 1 of the first"):
        list(loader(shards))
    seen = [one for batch in ids(loader(shards, skip_broken=0.01, batches=11)) for one in batch]
    assert len(set(seen)) == 21, "all that are whole, in a pass that ends"
    assert not {"s3_1", "s3_2", "s3_3"} & set(seen)
    assert capsys.readouterr().err.count("left out: image") >= 3
    rest = ids(loader(shards, skip_broken=0.01, batches=10, start=4))
    assert rest == ids(loader(shards, skip_broken=0.01, batches=10))[4:]


def test_a_shard_cut_off_is_named(shards):
    file = shards / "train-2.tar"
    file.write_bytes(file.read_bytes()[:700])
    with pytest.raises(UsageError, match=r"shard '.*train-2\.tar': can't be read"):
        list(loader(shards))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "data.train: has to be given"),
        ({"train": "gone-{0..3}.tar"}, r"'gone-0\.tar' is missing \(4 of 4\)"),
        ({"train": "gone-*.tar"}, "no file matches"),
        ({"train": "pipe:cat x"}, "would run a command of the shell"),
        ({"train": "x", "features": "y"}, "data.features=y: doesn't go with shards"),
        ({"train": "x", "limit_train": 3}, "data.limit_train=3: doesn't go with shards"),
        ({"train": "x", "unit": "caption"}, "of shards, an epoch counts pictures"),
        ({"train": "x", "samples_per_epoch": 0}, "data.samples_per_epoch=0: need at least 1"),
    ],
)
def test_wrong_options_are_told(options, message):
    with pytest.raises(UsageError, match=message):
        WebDatasetDataModule(**options).train_captions()


def test_fewer_shards_than_readers_are_told(shards):
    data = WebDatasetDataModule(train=str(shards / "train-*.tar"), num_workers=7, samples_per_epoch=64)
    data.bind(Captioner())
    with pytest.raises(UsageError, match=r"6 shards for 7 readers \(1 processes with 7 workers each\)"):
        data.train_dataloader()
    data.num_workers, data.batch_size = 0, 65
    with pytest.raises(UsageError, match=r"less than a batch of all \(65\)"):
        data.train_dataloader()
    with pytest.raises(UsageError, match="this command needs pictures by number"):
        data.split("train")
