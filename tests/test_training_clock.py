"""Runs that end after so much time: when, at which learning rates, and over several sittings."""

import csv
import json
import math
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lightning import Callback
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loops.evaluation_loop import _EvaluationLoop
from ranks import run_ranks
from test_bad_days import with_act
from tiny_run import error_line, tiny_config, write_config

from ladic.callbacks import TrainingClock, training_clock
from ladic.checkpoints import find_checkpoint, read_checkpoint
from ladic.errors import UsageError
from ladic.optim import WarmupDecay


class Clock:
    """Ten seconds a step and a thousand a validation, whatever the machine."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


CLOCK = Clock()
RATES = []


class Tick(Callback):
    """Moves the clock, and notes the learning rate of every step.

    Args:
        later: seconds more that a step takes on each further rank.
        notes: folder for a file of each rank with its learning rates.
    """

    def __init__(self, later: float = 0.0, notes: str | None = None) -> None:
        self.later, self.notes = later, notes

    def on_before_backward(self, trainer, *_):
        CLOCK.now += 10 + self.later * trainer.global_rank
        RATES.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_validation_batch_start(self, *_):
        CLOCK.now += 1000

    def on_train_end(self, trainer, *_):
        if self.notes is not None:
            told = {"rates": RATES, "step": trainer.global_step, "now": CLOCK.now}
            Path(self.notes, f"{trainer.global_rank}.json").write_text(json.dumps(told))


class SlowSave(Checkpoint):
    """Takes its time after every validation, when all other callbacks are through."""

    def on_validation_end(self, *_):
        CLOCK.now += 1000


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    CLOCK.now = 0.0
    RATES.clear()
    monkeypatch.setattr(training_clock, "time", CLOCK)


def timed(folder, *callbacks, **trainer):
    """A minute of training, six steps by the clock, validated every two."""
    config = tiny_config(folder)
    config["data"]["init_args"] |= {"num_train": 32, "unit": "image"}
    config["model"]["optimizer"] = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1.0e-3}}
    settings = {"max_steps": -1, "max_epochs": -1, "max_time": "00:00:01:00", "check_val_every_n_epoch": None}
    config["trainer"] |= {**settings, "val_check_interval": 2, **trainer}
    config["trainer"]["callbacks"] += [{"class_path": "test_training_clock.Tick"}, *callbacks]
    return write_config(folder, config)


def minutes(folder):
    """As logged, by step."""
    found = {}
    for file in sorted(folder.rglob("metrics.csv"), key=lambda file: file.stat().st_mtime):
        with file.open(newline="") as lines:
            found |= {int(row["step"]): float(row["train/minutes"]) for row in csv.DictReader(lines)
                      if row.get("train/minutes")}  # fmt: skip
    return found


def test_a_run_ends_when_its_time_of_training_is_up_and_the_rate_with_it(cli, tmp_path):
    lines = {"class_path": "ladic.callbacks.ProgressLines", "init_args": {"seconds": 0}}
    done = cli("fit", "-c", timed(tmp_path, lines), "--model.lr_schedule.warmup=0.25")
    assert done.code == 0, done.stderr
    assert CLOCK.now > 3000, "validations, which don't count"
    assert "0:01:00 of training in all; begins at step 0" in done.stdout
    told = [line.split("  ") for line in done.stdout.splitlines() if line.startswith("step ")]
    assert [(line[0], line[-1]) for line in told] == [
        (f"step {n}", f"0:00:{60 - 10 * n:02d} left") for n in range(1, 7)
    ]
    assert read_checkpoint(find_checkpoint(tmp_path / "run"))["global_step"] == 6
    share = np.arange(6) / 6  # of the minute, as each step begins
    expected = np.where(share < 0.25, share / 0.25, 1 - (share - 0.25) / 0.75)
    np.testing.assert_allclose(np.array(RATES) / 1e-3, expected, atol=1e-9)
    assert minutes(tmp_path / "run") == {step: pytest.approx((step + 1) / 6) for step in range(6)}


def test_neither_setting_a_validation_up_counts_nor_saving_after_it(cli, tmp_path, monkeypatch):
    reset = _EvaluationLoop.reset

    def slow(loop):  # which starts the processes that load pictures
        CLOCK.now += 1000
        reset(loop)

    monkeypatch.setattr(_EvaluationLoop, "reset", slow)
    done = cli("fit", "-c", timed(tmp_path, {"class_path": "test_training_clock.SlowSave"}))
    assert done.code == 0, done.stderr
    assert CLOCK.now == 6 * 10 + 3 * 3000
    assert minutes(tmp_path / "run") == {step: pytest.approx((step + 1) / 6) for step in range(6)}


def test_sittings_add_up_to_the_minute(cli, tmp_path):
    (tmp_path / "unbroken").mkdir()
    assert cli("fit", "-c", timed(tmp_path / "unbroken")).code == 0
    unbroken = RATES.copy()
    RATES.clear()
    CLOCK.now = 0.0
    done = cli("fit", "-c", timed(tmp_path, with_act(3, signal.SIGTERM)), "--checkpoint_minutes=null")
    assert done.code == 128 + signal.SIGTERM
    assert "stopped at step 3" in done.stderr
    CLOCK.now += 5000  # a night between the two
    again = timed(tmp_path)
    done = cli("fit", "-c", again, "--ckpt_path=auto")
    assert done.code == 0, done.stderr
    assert read_checkpoint(find_checkpoint(tmp_path / "run"))["global_step"] == 6
    assert minutes(tmp_path / "run")[5] == pytest.approx(1)
    assert pytest.approx(unbroken) == RATES
    assert len(set(unbroken)) == 6
    ends = CLOCK.now
    assert cli("fit", "-c", again, "--ckpt_path=auto").code == 0, "a run whose time is up is over"
    assert len(RATES) == 6
    assert ends == CLOCK.now


def test_ranks_go_by_the_clock_of_the_first(tmp_path):
    config = timed(tmp_path, limit_val_batches=0)
    whole = yaml.safe_load(config.read_text())
    (tick,) = [one for one in whole["trainer"]["callbacks"] if one["class_path"] == "test_training_clock.Tick"]
    tick["init_args"] = {"later": 7.0, "notes": str(tmp_path)}
    whole["data"]["init_args"]["batch_size"] = 4  # with two ranks, as many steps an epoch
    words = ["fit", "-c", write_config(tmp_path, whole), "--trainer.devices=2"]
    for rank in run_ranks(words, tmp_path):
        assert rank.code == 0, rank.text
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert (first["now"], second["now"]) == (60, 102)
    assert first["step"] == second["step"] == 6
    assert first["rates"] == second["rates"]
    assert len(set(first["rates"])) == 6


def test_steps_end_a_run_that_has_time_left(cli, tmp_path):
    done = cli("fit", "-c", timed(tmp_path, max_steps=3, limit_val_batches=0), "--model.lr_schedule.warmup=0")
    assert done.code == 0, done.stderr
    assert "3 in all or 0:01:00 of training in all" in done.stdout
    np.testing.assert_allclose(np.array(RATES) / 1e-3, [1, 2 / 3, 1 / 3], atol=1e-9)


def test_without_validation_the_end_is_saved_too(cli, tmp_path):
    words = ["--trainer.max_time=00:00:01:00"]  # in YAML's eyes a number of base 60
    done = cli("fit", "-c", timed(tmp_path, limit_val_batches=0, max_time=None), *words)
    assert done.code == 0, done.stderr
    checkpoint = read_checkpoint(tmp_path / "run" / "resume.ckpt")
    assert checkpoint["global_step"] == 6
    assert checkpoint["callbacks"]["TrainingClock"] == {"seconds": 60.0}


def test_a_timer_of_the_users_own_stays(cli, tmp_path):
    kind = "lightning.pytorch.callbacks.Timer"
    own = {"class_path": kind, "init_args": {"duration": {"hours": 1}, "interval": "step"}}
    done = cli("fit", "-c", timed(tmp_path, own, max_time=None, max_steps=2))
    assert done.code == 0, done.stderr
    assert "2 in all; begins" in done.stdout


def test_a_clock_of_the_users_own_has_its_own_limit(cli, tmp_path):
    own = {"class_path": "ladic.callbacks.TrainingClock", "init_args": {"minutes": 0.5}}
    done = cli("fit", "-c", timed(tmp_path, own, max_time=None))
    assert done.code == 0, done.stderr
    assert len(RATES) == 3


def test_a_run_without_an_end_is_refused(cli, tmp_path):
    done = cli("fit", "-c", timed(tmp_path, max_time=None))
    assert done.code == 2
    assert "lr_schedule" in error_line(done.stderr)
    assert "trainer.max_steps, trainer.max_epochs or trainer.max_time" in error_line(done.stderr)
    with pytest.raises(UsageError, match=r"TrainingClock\.minutes=0: need more than 0"):
        TrainingClock(0)


@pytest.mark.parametrize("shape", ["linear", "cosine", "constant"])
def test_by_time_the_rate_is_that_of_as_many_steps(shape):
    schedule, total = WarmupDecay(0.1, shape, floor=0.2, from_zero=True), 200
    for step in range(total + 1):
        by_time = schedule.factor(step, math.inf, step / total)
        assert by_time == pytest.approx(schedule.factor(step, total))
    assert schedule.factor(7, math.inf, 1.3) == schedule.factor(total, total), "the end is the end"


def test_what_is_nearer_to_its_end_decides():
    schedule = WarmupDecay(0.0)
    spent = [0.9]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    rates = schedule(optimizer, 10, lambda: spent[0])
    optimizer.step()
    rates.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)
    spent[0] = 0.05
    optimizer.step()
    rates.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.8)
