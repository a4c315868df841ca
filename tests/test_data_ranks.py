"""Data on two ranks: the cache they make together and train from, broken pictures, and shards of one stream."""

import json
import os
import shutil

import pytest
from lightning import Callback
from ranks import run_ranks
from test_data_webdataset import jpeg, shard
from test_many_ranks import TWO, losses
from tiny_run import karpathy_tree, tiny_config, write_config


class Seen(Callback):
    """Writes the ids of every training batch into a file of each rank."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def on_train_batch_start(self, trainer, captioner, batch, batch_idx):
        with open(os.path.join(self.folder, f"seen{trainer.global_rank}.jsonl"), "a", encoding="utf-8") as out:
            out.write(json.dumps([trainer.current_epoch, *map(str, batch["image_id"])]) + "\n")


def config_of(folder, data, **trainer):
    """Two epochs without validation, noting what each rank sees."""
    folder.mkdir(exist_ok=True)
    if (folder.parent / "space.safetensors").is_file():  # all runs of a test have the same text space
        shutil.copy(folder.parent / "space.safetensors", folder)
    config = tiny_config(folder)
    config["data"] = data
    config["trainer"] |= {"max_steps": -1, "max_epochs": 2, "limit_val_batches": 0, **trainer}
    config["trainer"]["logger"] = {"class_path": "CSVLogger", "init_args": {"save_dir": str(folder / "run")}}
    seen = {"class_path": "test_data_ranks.Seen", "init_args": {"folder": str(folder)}}
    config["trainer"]["callbacks"] = [seen, config["trainer"]["callbacks"][1]]
    return write_config(folder, config)


def seen(folder):
    """For each rank and epoch, the ids in order."""
    ranks = []
    for rank in (0, 1):
        epochs = {}
        for line in (folder / f"seen{rank}.jsonl").read_text().splitlines():
            epoch, *ids = json.loads(line)
            epochs.setdefault(epoch, []).extend(ids)
        ranks.append(epochs)
    return ranks


def ended_well(ranks):
    assert [rank.code for rank in ranks] == [0, 0], ranks[0].text[-1500:] + ranks[1].text[-1500:]


@pytest.fixture
def pictures(tmp_path):
    """The ``data`` part of a configuration over ten training pictures."""
    data = karpathy_tree(tmp_path, train=10)
    data["init_args"] |= {"unit": "image", "batch_size": 2}
    return data


def test_a_cache_made_by_two_ranks_is_that_of_one_and_two_ranks_train_from_it(cli, pictures, tmp_path):
    config = config_of(tmp_path, pictures)
    words = [
        "cache-features",
        "-c",
        config,
        "--batch-size=2",
        f"--file-megabytes={2 * 64 * 16 * 2 / 2**20}",
        "--output",
    ]
    assert cli(*words, tmp_path / "one").code == 0
    ended_well(run_ranks([*words, tmp_path / "two"], tmp_path))
    one, two = ({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two
    assert "train-00004.npy" in one
    for name, flags in {"encoder": [], "cache": [f"--data.features={tmp_path / 'two'}"]}.items():
        config = config_of(tmp_path / name, pictures)
        ended_well(run_ranks(["fit", "-c", config, *TWO, *flags], tmp_path / name))
    assert losses(tmp_path / "cache") == pytest.approx(losses(tmp_path / "encoder"), abs=1e-3)
    assert len(losses(tmp_path / "cache")) == 4
    assert seen(tmp_path / "cache") == seen(tmp_path / "encoder")


def test_a_broken_picture_is_left_out_on_every_rank(pictures, tmp_path):
    (tmp_path / "images" / "train_3.jpg").write_bytes(b"\xff\xd8 cut off")
    (tmp_path / "images" / "train_6.jpg").write_bytes(b"")
    config = config_of(tmp_path, pictures)
    refused = run_ranks(["fit", "-c", config, *TWO], tmp_path, seconds=60)
    assert [rank.code for rank in refused] != [0, 0]
    config = config_of(tmp_path / "skipping", pictures)
    ended_well(run_ranks(["fit", "-c", config, *TWO, "--data.skip_broken=0.2"], tmp_path / "skipping"))
    ranks = seen(tmp_path / "skipping")
    for epoch in (0, 1):
        visited = sorted(ranks[0][epoch] + ranks[1][epoch])
        assert len(visited) == len(set(visited)) == 8
        assert not {"train_3.jpg", "train_6.jpg"} & set(visited)


def test_shards_are_split_between_ranks_without_a_sample_twice(tmp_path):
    for number in range(4):
        samples = [(f"s{number}_{n}", {"jpg": jpeg(), "txt": b"red circle\n"}) for n in range(4)]
        shard(tmp_path / f"train-{number}.tar", samples)
    data = {
        "class_path": "WebDatasetDataModule",
        "init_args": {
            "train": str(tmp_path / "train-{0..3}.tar"), "val": str(tmp_path / "train-0.tar"),
            "samples_per_epoch": 16, "batch_size": 2,
        },
    }  # fmt: skip
    ended_well(run_ranks(["fit", "-c", config_of(tmp_path, data), *TWO], tmp_path))
    ranks = seen(tmp_path)
    for epoch in (0, 1):
        visited = ranks[0][epoch] + ranks[1][epoch]
        assert len(visited) == len(set(visited)) == 16
    assert ranks[0][0] != ranks[0][1], "another order in the next epoch"
