"""Tasks of a sweep side by side, with commands that are no trainings: cores, turns, signals, what they say."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from ladic.sweep import SideBySide, side_by_side

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
PROGRAM = """
import json, os, signal, subprocess, sys, threading, time
what, file = sys.argv[1:3]
def cores(): return sorted(os.sched_getaffinity(0))
if what == "fail":
    print("error: no such thing", file=sys.stderr)
    sys.exit(3)
if what == "watch":
    child = [sys.executable, "-c", sys.argv[3], file + ".child"]
    seen, begun = {"main": [], "thread": []}, time.monotonic()
    def look(name):
        while time.monotonic() - begun < 3:
            seen[name].append(cores())
            time.sleep(0.01)
    other = threading.Thread(target=look, args=("thread",))
    other.start()
    process = subprocess.Popen(child)
    look("main")
    other.join()
    process.wait()
    json.dump({**seen, "begun": begun, "ended": time.monotonic(), "threads": os.environ["OMP_NUM_THREADS"],
               "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"), "job": os.environ.get("SLURM_JOB_ID")}, open(file, "w"))
    print("seen", flush=True)
if what == "wait":
    def leave(number, _):
        print("asked by", number, flush=True)
        sys.exit(128 + number)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    open(file, "w").close()
    time.sleep(600)
"""
CHILD = """
import json, os, sys, time
seen, begun = [], time.monotonic()
while time.monotonic() - begun < 2:
    seen.append(sorted(os.sched_getaffinity(0)))
    time.sleep(0.01)
json.dump(seen, open(sys.argv[1], "w"))
"""


@pytest.fixture(autouse=True)
def program(monkeypatch):
    monkeypatch.setattr(side_by_side, "LADIC", (sys.executable, "-c", PROGRAM))


def test_so_many_at_a_time_each_with_its_share_which_they_exchange(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(side_by_side, "TURN", 0.5)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    files = [tmp_path / name for name in "abc"]
    tasks = [["watch", str(file), CHILD] for file in files]
    assert SideBySide(tasks, 2, gpus=["4", "5", "6"]).run() == 0
    a, b, c = (json.loads(file.read_text()) for file in files)
    assert a["begun"] < b["ended"], "the first two are side by side"
    assert b["begun"] < a["ended"]
    assert c["begun"] > min(a["ended"], b["ended"]), "the third begins when one of them has ended"
    assert [each["gpus"] for each in (a, b)] == ["4", "5"], "as many for each"
    assert {each["job"] for each in (a, b, c)} == {None}
    assert sorted(capfd.readouterr().out.split("\n"))[1:] == ["1/3 seen", "2/3 seen", "3/3 seen"]
    if len(CORES) < 2:
        pytest.skip("one core has nothing to exchange")
    shares = [CORES[0::2], CORES[1::2]]
    assert [int(each["threads"]) for each in (a, b)] == [len(shares[1])] * 2, "the smaller share's, which all come to"
    for seen in (a["main"], a["thread"], b["main"], b["thread"], json.loads((tmp_path / "a.child").read_text())):
        assert all(share in seen for share in shares), "every thread and process had both"
    for seen in (a["main"], b["main"]):
        part = sum(cores == shares[0] for cores in seen) / sum(cores in shares for cores in seen)
        assert 0.25 < part < 0.75, "each for about half of the time"


def test_a_task_that_fails_is_told_and_the_others_go_on(tmp_path, capfd):
    sweep = SideBySide([["fail", ""], ["watch", str(tmp_path / "a"), CHILD]], 1)
    assert (sweep.run(), sweep.stopped) == (1, False)
    told = capfd.readouterr()
    assert (told.out, told.err) == ("2/2 seen\n", "1/2 error: no such thing\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_all_leave_and_no_other_begins(tmp_path, number):
    files = [str(tmp_path / name) for name in "abc"]
    script = (
        "import sys; from ladic.sweep import SideBySide, side_by_side\n"
        f"side_by_side.LADIC = (sys.executable, '-c', {PROGRAM!r})\n"
        f"sweep = SideBySide([['wait', file] for file in {files}], 2)\n"
        "code = sweep.run(); print('a table:', not sweep.stopped); sys.exit(code)"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not all(map(os.path.exists, files[:2])):
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child.send_signal(number)
    out, err = child.communicate(timeout=300)
    assert (child.returncode, err) == (128 + number, "")
    first, second, *rest = out.splitlines()
    assert sorted([first, second]) == [f"1/3 asked by {number:d}", f"2/3 asked by {number:d}"]
    assert rest == ["stopped; the same command goes on from here", "a table: False"]
    assert not os.path.exists(files[2])
