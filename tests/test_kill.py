"""``kill -9`` at random moments; what is left goes on to the same weights. LADIC_SLOW=1 pytest tests/test_kill.py"""

import os
import random
import shutil
import signal
import time

import numpy as np
import pytest
import torch
from test_bad_days import long_config
from tiny_run import write_config

from ladic.checkpoints import newest_checkpoint, read_checkpoint
from ladic.cli.main import main

if os.environ.get("LADIC_SLOW") != "1":
    pytest.skip("minutes of killing, only with LADIC_SLOW=1", allow_module_level=True)

KILLS = int(os.environ.get("LADIC_KILLS", "50"))


def start(words):
    """The command in a process of its own, forked so that it needs no seconds of imports before it can be killed."""
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


def run_for(words, seconds):
    """Runs the command, kills it when its time is up, and says whether it came to its end."""
    pid, deadline = start(words), time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0
            return True
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


def everything(folder):
    checkpoint = read_checkpoint(newest_checkpoint(folder))
    return {f"{state}.{name}": value for state in ("state_dict", "current_model_state")
            for name, value in checkpoint[state].items()}  # fmt: skip


def test_training_killed_at_any_moment(tmp_path):
    def words(name):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        if name != "whole":
            shutil.copy(tmp_path / "whole" / "space.safetensors", folder)
        saver = ["--checkpoint_minutes=0", "--ckpt_path=auto"]
        config = long_config(folder, max_steps=300, val_check_interval=3)
        return ["fit", "-c", write_config(folder, config), *saver]

    begun = time.monotonic()
    assert run_for(words("whole"), 3000)
    whole_time = time.monotonic() - begun
    chance, kills = random.Random(0), 0
    killed = words("killed")
    while kills < KILLS:
        # Long enough to get somewhere in the mean, however slow the machine is.
        if run_for(killed, chance.uniform(0.02, 0.12) * whole_time + 0.3):
            shutil.rmtree(tmp_path / "killed" / "run")  # it came to its end between two kills: once more
        else:
            kills += 1
            left = list((tmp_path / "killed" / "run").rglob("*.ckpt"))
            for file in left:
                read_checkpoint(file)  # none is broken
    assert run_for(killed, 3000)
    first, second = everything(tmp_path / "whole" / "run"), everything(tmp_path / "killed" / "run")
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_caching_killed_at_any_moment(tmp_path):
    config = long_config(tmp_path)
    config["data"]["init_args"]["num_train"] = 400
    file = write_config(tmp_path, config)

    def words(name):
        return ["cache-features", "-c", file, "--output", tmp_path / name, "--splits", "train"]

    begun = time.monotonic()
    assert run_for(words("whole"), 600)
    whole_time, chance = time.monotonic() - begun, random.Random(1)
    for _ in range(max(1, KILLS // 5)):
        if run_for(words("killed"), chance.uniform(0.1, 0.9) * whole_time):
            shutil.rmtree(tmp_path / "killed")
    assert run_for(words("killed"), 600)
    assert np.array_equal(np.load(tmp_path / "whole" / "train.npy"), np.load(tmp_path / "killed" / "train.npy"))
