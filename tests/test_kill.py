"""``kill -9`` at random moments; what is left goes on to the same weights. LADIC_SLOW=1 pytest tests/test_kill.py"""

import mmap
import os
import random
import shutil
import signal
import time
from collections import Counter

import pytest
import torch
from lightning import Callback
from test_bad_days import long_config
from tiny_run import write_config

from ladic.checkpoint_io import AtomicCheckpointIO
from ladic.checkpoints import newest_checkpoint, read_checkpoint
from ladic.cli.main import main

if os.environ.get("LADIC_SLOW") != "1":
    pytest.skip("minutes of killing, only with LADIC_SLOW=1", allow_module_level=True)

KILLS = int(os.environ.get("LADIC_KILLS", "50"))
PHASES = {"starting": 0, "training": 1, "validation": 2, "writing a checkpoint": 3}
NOW = mmap.mmap(-1, 1)
"""What the forked process is doing, in memory that both see."""
LASTING = {"training": 0.03, "validation": 0.1, "writing a checkpoint": 0.006}
"""About how many seconds each takes here."""


def enter(phase):
    before, NOW[0] = NOW[0], PHASES[phase]
    return before


class Phase(Callback):
    """Says what the run is doing."""

    def on_train_batch_start(self, *_):
        enter("training")

    def on_validation_epoch_start(self, *_):
        enter("validation")


class MarkedIO(AtomicCheckpointIO):
    """Says when a checkpoint is being written."""

    def save_checkpoint(self, *arguments, **more):
        before = enter("writing a checkpoint")
        super().save_checkpoint(*arguments, **more)
        NOW[0] = before


def start(words):
    """The command in a process of its own, forked so that it needs no seconds of imports before it can be killed."""
    NOW[0] = PHASES["starting"]
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        torch.set_num_threads(1)
        os.setsid()
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        main([str(word) for word in words])
        code = 0
    finally:
        os._exit(code)


def ended(pid):
    """Whether it came to its end, which has to be a good one."""
    done, status = os.waitpid(pid, os.WNOHANG)
    assert not done or os.waitstatus_to_exitcode(status) == 0
    return bool(done)


def kill(pid):
    phase = next(name for name, number in PHASES.items() if number == NOW[0])
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return phase


def run(words, seconds=3000):
    """Runs the command to its end, or kills it when its time is up; whether it came to its end."""
    pid, deadline = start(words), time.monotonic() + seconds
    while not ended(pid):
        if time.monotonic() > deadline:
            kill(pid)
            return False
        time.sleep(0.002)
    return True


def killed_in(words, phase, times, after):
    """Kills the command a moment after it entered a phase so many times; the phase it died in, None if it ended."""
    pid, inside = start(words), False
    while not ended(pid):
        before, inside = inside, NOW[0] == PHASES[phase]
        times -= inside and not before
        if not times:
            time.sleep(after)
            return None if ended(pid) else kill(pid)
        time.sleep(0.0005)
    return None


def everything(folder):
    checkpoint = read_checkpoint(newest_checkpoint(folder))
    return {f"{state}.{name}": value for state in ("state_dict", "current_model_state")
            for name, value in checkpoint[state].items()}  # fmt: skip


def test_training_killed_at_any_moment(tmp_path, record_property):
    """A third of the kills aim at training, validation and the writing of checkpoints each."""

    def words(name):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        if name != "whole":
            shutil.copy(tmp_path / "whole" / "space.safetensors", folder)
        config = long_config(folder, {"class_path": "test_kill.Phase"}, max_steps=300, val_check_interval=3)
        config["trainer"]["plugins"] = [{"class_path": "test_kill.MarkedIO"}]
        return ["fit", "-c", write_config(folder, config), "--checkpoint_minutes=0", "--ckpt_path=auto"]

    assert run(words("whole"))
    chance, where, resumed, ends = random.Random(0), Counter(), 0, 0
    killed = words("killed")
    while where.total() < KILLS:
        aim = list(LASTING)[where.total() % 3]
        phase = killed_in(killed, aim, chance.randint(1, 6), chance.uniform(0, LASTING[aim]))
        if phase is None:  # it came to its end between two kills: once more
            shutil.rmtree(tmp_path / "killed" / "run")
            ends += 1
            continue
        where[phase] += 1
        left = list((tmp_path / "killed" / "run").rglob("*.ckpt"))
        for file in left:
            read_checkpoint(file)  # none is broken
        resumed += bool(left)
    assert run(killed)
    first, second = everything(tmp_path / "whole" / "run"), everything(tmp_path / "killed" / "run")
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert set(LASTING) <= set(where)
    record_property("kills", ", ".join(f"{count} in {phase}" for phase, count in where.items()))
    record_property("resumed from a checkpoint", resumed)
    record_property("runs that reached their end between kills and began anew", ends)


def test_caching_killed_at_any_moment(tmp_path, record_property):
    config = long_config(tmp_path)
    config["data"]["init_args"]["num_train"] = 3000
    file = write_config(tmp_path, config)

    def words(name):
        size = 20 * 64 * 16 * 2 / 2**20  # twenty pictures
        words = ["cache-features", "-c", file, "--output", tmp_path / name, "--splits", "train", "--batch-size", "16"]
        return [*words, f"--file-megabytes={size}"]

    begun = time.monotonic()
    assert run(words("whole"))
    whole_time, chance, kills = time.monotonic() - begun, random.Random(1), 0
    while kills < max(1, KILLS // 2):
        if run(words("killed"), chance.uniform(0.02, 0.3) * whole_time):
            shutil.rmtree(tmp_path / "killed")
        else:
            kills += 1
    assert run(words("killed"))
    whole, killed = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("whole", "killed")
    )
    assert whole == killed
    record_property("kills", f"{kills} in caching")
