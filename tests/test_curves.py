"""What a run logged, over several sittings and a kill."""

import os

import pytest

from ladic.errors import UsageError
from ladic.plots import read_curves


def log(run, version, text, at):
    """A file as Lightning's CSVLogger writes it, last changed at a second."""
    file = run / f"lightning_logs/version_{version}/metrics.csv"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    os.utime(file, (at, at))
    return file


def test_steps_that_a_kill_lost_are_no_part_of_the_curve(tmp_path):
    head = "epoch,step,train/loss,val/CIDEr-D\n"
    log(tmp_path, 0, head + "0,3,4.0,\n0,3,,0.1\n0,7,3.0,\n0,7,,0.2\n0,11,2.9,\n0,12,,0.3\n", at=1000)
    log(tmp_path, 1, head + "0,8,2.0,\n0,7,,0.25\n0,9,1.0,\n", at=2000)
    log(tmp_path, 2, "epoch,step,test/CIDEr-D\n0,0,0.4\n", at=3000)
    assert read_curves(tmp_path) == {
        "train/loss": [(3, 4.0), (7, 3.0), (8, 2.0), (9, 1.0)],
        "val/CIDEr-D": [(3, 0.1), (7, 0.25)],
        "test/CIDEr-D": [(0, 0.4)],
    }


@pytest.mark.parametrize("line", ["two,0.5", "2,half", "2,0.5,0.6", ",0.5"])
def test_a_damaged_log_is_told(tmp_path, line):
    file = log(tmp_path, 0, f"step,train/loss\n1,2.0\n{line}\n", at=1000)
    with pytest.raises(UsageError, match="not numbers that `ladic fit` logged") as told:
        read_curves(tmp_path)
    assert str(told.value).startswith(f"'{file}': ")
