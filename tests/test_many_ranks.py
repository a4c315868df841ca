"""Two ranks on this machine: sharded training, and what happens when one of them dies."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from lightning import Callback
from ranks import run_ranks
from test_bad_days import EMA, with_act
from tiny_run import error_line, tiny_config, write_config

from ladic.checkpoints import read_checkpoint
from ladic.datamodules import items

TWO = ["--trainer.devices=2", "--trainer.accelerator=cpu"]


class Die(Callback):
    """Raises, or kills the process, on one rank after one step."""

    def __init__(self, rank: int, how: str) -> None:
        self.rank, self.how = rank, how

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_rank == self.rank and trainer.global_step == 2:
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("boom")


def config_of(folder, *callbacks):
    """Six steps over epochs of four, validated every three, with everything that touches weights."""
    config = tiny_config(folder)
    config["data"]["init_args"] |= {"num_train": 32, "unit": "image", "batch_size": 4}
    config["model"]["optimizer"] = {"class_path": "ladic.muon.MuonAdamW", "init_args": {"lr": 0.002}}
    config["trainer"] |= {"max_steps": 6, "val_check_interval": 3, "check_val_every_n_epoch": None}
    config["trainer"] |= {"gradient_clip_val": 1.0}
    config["trainer"]["logger"] = {"class_path": "CSVLogger", "init_args": {"save_dir": str(folder / "run")}}
    config["trainer"]["callbacks"] = [EMA, *callbacks, config["trainer"]["callbacks"][1]]
    return config


def fit(folder, *words, callbacks=(), space=None):
    folder.mkdir(exist_ok=True)
    if space is not None:
        shutil.copy(space / "space.safetensors", folder)
    return run_ranks(["fit", "-c", write_config(folder, config_of(folder, *callbacks)), *TWO, *words], folder)


def losses(folder):
    rows = [row for file in (folder / "run").rglob("metrics.csv") for row in csv.DictReader(file.open())]
    return {int(row["step"]): float(row["train/loss"]) for row in rows if row.get("train/loss")}


def tensors(folder, name="last.ckpt"):
    """Every tensor of a checkpoint by where it stands: weights, averages, moments."""
    found = {}

    def walk(value, path):
        if isinstance(value, torch.Tensor):
            found[path] = value
        for key, inner in (
            value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else [])
        ):
            walk(inner, f"{path}.{key}")

    walk(read_checkpoint(folder / "run" / name), "")
    return found


def test_sharded_training_is_that_of_whole_ranks_and_goes_on_where_it_was(tmp_path):
    whole, sharded, broken = (tmp_path / name for name in ("whole", "sharded", "broken"))
    for folder, strategy in ((whole, "ddp"), (sharded, "fsdp")):
        for ended in fit(folder, f"--trainer.strategy={strategy}", space=whole if folder is sharded else None):
            assert ended.code == 0, ended.text
    ours, theirs = losses(sharded), losses(whole)
    assert ours.keys() == theirs.keys() == set(range(6))
    assert max(abs(ours[step] - theirs[step]) for step in ours) < 1e-4
    first, second = tensors(whole), tensors(sharded)
    assert {name: value.shape for name, value in first.items()} == {name: value.shape for name, value in second.items()}
    assert max((first[name].float() - second[name].float()).abs().max() for name in first) < 1e-3

    stopped = fit(broken, "--trainer.strategy=fsdp", callbacks=[with_act(4, signal.SIGUSR1)], space=whole)
    assert [ended.code for ended in stopped] == [128 + signal.SIGUSR1] * 2, stopped
    resumed = fit(broken, "--trainer.strategy=fsdp", "--ckpt_path=auto")
    assert [ended.code for ended in resumed] == [0, 0], resumed[0].text + resumed[1].text
    third = tensors(broken)
    assert [name for name in second if not torch.equal(second[name], third[name])] == []

    # What ran sharded goes on unsharded: the file says nothing of shards.
    shutil.copytree(broken / "run", tmp_path / "again" / "run")
    for ended in fit(
        tmp_path / "again", "--trainer.strategy=ddp", "--ckpt_path=auto", "--trainer.max_steps=9", space=whole
    ):
        assert ended.code == 0, ended.text
        assert ended.text.count("begins at step 6") <= 1
    written = [read_checkpoint(file)["global_step"] for file in (tmp_path / "again" / "run").rglob("*.ckpt")]
    assert max(written) == 9


def test_sharding_that_is_not_there(cli, tmp_path):
    config = write_config(tmp_path)
    line = error_line(cli("fit", "-c", config, "--trainer.strategy=fsdp_cpu_offload").stderr)
    assert line == "trainer.strategy='fsdp_cpu_offload': there is no such sharding; accepted is 'fsdp'"
    line = error_line(cli("fit", "-c", config, "--trainer.strategy=fsdp", "--trainer.precision=16-mixed").stderr)
    assert line.startswith("trainer.precision=16-mixed: not with strategy=fsdp")


@pytest.mark.parametrize(("rank", "how"), [(1, "raise"), (0, "kill")])
def test_a_rank_that_dies_ends_the_others_within_a_minute(tmp_path, rank, how):
    die = {"class_path": "test_many_ranks.Die", "init_args": {"rank": rank, "how": how}}
    ended = fit(tmp_path, "--trainer.strategy=ddp", callbacks=[die])
    dead, other = ended[rank], ended[1 - rank]
    assert dead.code == (1 if how == "raise" else -signal.SIGKILL), dead.text
    assert ("RuntimeError: boom" in dead.text) == (how == "raise")
    assert other.code == 2, other.text
    assert "another process of this run ended, its error is the one to read" in error_line(other.text)
    assert dead.seconds < other.seconds + 1  # its error is the first
    assert other.seconds - dead.seconds < 60


@pytest.mark.skipif(os.environ.get("LADIC_SLOW") != "1", reason="half a minute, only with LADIC_SLOW=1")
@pytest.mark.parametrize("rank", [0, 1])
def test_processes_that_lightning_started_end_together(tmp_path, rank, record_property):
    die = {"class_path": "test_many_ranks.Die", "init_args": {"rank": rank, "how": "raise"}}
    config = write_config(tmp_path, config_of(tmp_path, die))
    mark = f"LADIC_TEST_MARK={tmp_path}"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "GLOO_SOCKET_IFNAME": "lo"}
    environment |= dict([mark.split("=", 1)])
    words = [sys.executable, "-m", "ladic", "fit", "-c", config, *TWO, "--trainer.strategy=ddp"]
    begun = time.monotonic()
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    at = [place for word in ("Traceback", "error: ") if (place := done.stderr.find(word)) >= 0]
    first = done.stderr[min(at) :]
    assert first.index("RuntimeError: boom") < (first + "error: ").index("error: ", 1), done.stderr
    left = [one for one in Path("/proc").glob("[0-9]*") if mark.encode() in environ(one)]
    assert left == []
    record_property("ended with", f"{done.returncode} after {time.monotonic() - begun:.0f} s, imports included")


def environ(process):
    try:
        return (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def test_a_loading_process_that_dies_is_told(cli, tmp_path, monkeypatch):
    def killed(*_):
        assert torch.utils.data.get_worker_info() is not None
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(items, "to_tensor", killed)
    done = cli("fit", "-c", write_config(tmp_path), "--data.num_workers=1")
    assert done.code == 2
    line = error_line(done.stderr)
    assert line.startswith("data.num_workers: a process that loads pictures ")
    assert "go on with --ckpt_path=auto" in line
