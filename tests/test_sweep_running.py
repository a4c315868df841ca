"""The running of a sweep with commands that are no trainings: failures, preparations, stops, jobs."""

import datetime
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tiny_run import sweep_writer

from ladic.sweep import Runner, read_sweep, running
from ladic.sweep.record import alone, is_finished, lock_of


@pytest.fixture
def write(tmp_path):
    return sweep_writer(tmp_path)


PROGRAM = """
import os, signal, sys, time
what, where = sys.argv[1], [word for word in sys.argv if word.startswith("--trainer.default_root_dir=")]
print("env", sorted(name for name in os.environ if name.startswith("SLURM_")))
if what == "test":
    print("error: the first\\nerror: the last\\nand more")
    sys.exit(3)
if what == "predict":
    def leave(*_):
        print("saved", flush=True)
        sys.exit(143)
    signal.signal(signal.SIGTERM, leave)
    with open(sys.argv[-1].partition("=")[2] + "/ready", "w") as ready:
        ready.write(str(os.getpid()))
    time.sleep(600)
if what == "validate":
    os.kill(os.getpid(), signal.SIGKILL)
if what == "make":
    open(sys.argv[2], "w").close()
"""


@pytest.fixture
def runner(write, monkeypatch):
    """The runner of a sweep file, over the program above."""
    monkeypatch.setattr(running, "LADIC", (sys.executable, "-c", PROGRAM))

    def make(**content):
        sweep = read_sweep(write(**content))
        return Runner(sweep, sweep.runs(), "a machine")

    return make


def test_a_failure_says_how_it_ended_and_the_logs_last_error(runner, capfd, tmp_path):
    assert runner(rows={"a": None, "b": {"commands": ["fit", "validate"]}, "c": {"commands": ["fit"]}}).run() == 1
    told = capfd.readouterr()
    a, b = told.err.splitlines()
    assert a == f"[1/3] a, seed 0: test ended with 3: error: the last; log: {tmp_path}/out/a/seed-0/log.txt"
    assert "[2/3] b, seed 0: validate was killed by SIGKILL" in b
    assert "[3/3] c, seed 0: finished in" in told.out
    record = json.loads((tmp_path / "out/a/seed-0/sweep.json").read_text())
    (done,) = record["done"]  # fit isn't run again
    assert (done["command"], done["machine"]) == ("fit", "a machine")
    assert done["date"] == datetime.date.today().isoformat()
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True)
    if head.returncode == 0:
        assert head.stdout.startswith(done["commit"].removesuffix("-dirty"))


def test_a_student_is_not_trained_before_its_teacher(runner, capfd):
    rows = {"a": {"commands": ["fit", "validate"], "seeds": [0, 1]}, "b": {"teacher": "a", "commands": ["fit"]}}
    sweep = runner(rows=rows)
    whole = sweep.runs
    sweep.runs = [whole[0], whole[2]]
    assert [str(run) for run in sweep.runs] == ["a, seed 0", "b, seed 0"]
    sweep.runs.reverse()
    assert sweep.run() == 1
    told = capfd.readouterr()
    assert "[1/2] b, seed 0: a is its teacher and is not trained yet; run that row first" in told.err
    assert sweep.run() == 1, "a fails to validate, but it is trained"
    assert "[1/2] b, seed 0: finished in" in capfd.readouterr().out


def test_what_was_begun_on_weights_that_were_trained_anew_is_told_and_left_out(runner, capfd, tmp_path):
    sweep = runner(rows={"a": None, "b": {"teacher": "a"}, "c": {"teacher": "b"}}, commands=["fit"])
    assert sweep.run() == 0
    assert sweep.run() == 0
    (tmp_path / "out/a").rename(tmp_path / "before")
    assert [is_finished(run) for run in sweep.runs] == [False, True, True], "weights that are gone are no others"
    capfd.readouterr()
    assert sweep.run() == 1
    told = capfd.readouterr()
    assert "[1/3] a, seed 0: finished in" in told.out
    stale = f"'{tmp_path}/out/b/seed-0' was begun on weights of '{tmp_path}/out/a/seed-0' that were trained anew since"
    assert [line[:13] for line in told.err.splitlines()] == ["[2/3] b, seed", "[3/3] c, seed"]
    assert all(f"{stale}; move the folder away to run it anew" in line for line in told.err.splitlines())
    assert [is_finished(run) for run in sweep.runs] == [True, False, False]


def test_what_waits_for_a_run_of_another_process_is_passed_over(runner, capfd):
    sweep = runner(rows={"a": {"commands": ["fit"]}, "b": {"teacher": "a"}})
    with alone(lock_of(sweep.runs[0])) as lock:
        assert lock is not None
        assert sweep.run() == 0
    told = capfd.readouterr()
    assert told.out.splitlines() == [
        "[1/2] a, seed 0: another process is at it",
        "[2/2] b, seed 0: passed over, another process is at a, seed 0",
    ]
    assert told.err == ""


def test_a_task_of_an_array_waits_for_what_has_its_run(runner, capfd):
    sweep = runner(commands=["fit"])
    sweep.patient = True
    held = alone(lock_of(sweep.runs[0]))
    assert held.__enter__() is not None
    release = threading.Timer(0.5, held.__exit__, (None, None, None))
    release.start()
    assert sweep.run() == 0
    release.join()
    first, second, third = capfd.readouterr().out.splitlines()
    assert first == "[1/1] a, seed 0: waits for another process that is at it"
    assert second.startswith("[1/1] a, seed 0: begins")
    assert third.startswith("[1/1] a, seed 0: finished in")


def test_a_finished_command_is_not_run_again(runner, tmp_path):
    assert runner().run() == 1
    assert runner().run() == 1
    log = (tmp_path / "out/a/seed-0/log.txt").read_text()
    assert (log.count("$ ladic fit "), log.count("$ ladic test ")) == (1, 2)


def test_preparations_are_made_once_and_again_where_they_were_cut_off(runner, tmp_path, capfd):
    made, mark = tmp_path / "shared/made", tmp_path / "shared/made.prepared"
    step = {"command": f"ladic make {made}", "makes": str(made)}
    settings = {"prepare": [step], "commands": ["fit"]}
    assert runner(**settings).run() == 0
    assert json.loads(mark.read_text()) == {"command": f"make {made}", "done": True}
    made.write_text("kept")
    capfd.readouterr()
    assert runner(**settings, output=str(tmp_path / "other")).run() == 0
    assert made.read_text() == "kept"
    assert f"prepare make: {made} is there already\n" in capfd.readouterr().out
    mark.write_text(json.dumps({"command": "make otherwise", "done": False}))
    assert runner(**settings).run() == 0
    assert made.read_text() == "", "what was begun and not finished is made anew, whatever began it"
    mark.unlink()
    made.write_text("by hand")
    capfd.readouterr()
    assert runner(**settings).run() == 0
    assert made.read_text() == "by hand"
    assert f"{made} is there already, taken as made by hand: no 'made.prepared' beside it" in capfd.readouterr().out


def test_what_another_command_prepared_is_told_and_not_used(runner, tmp_path, capfd):
    made = tmp_path / "made"
    assert runner(prepare=[{"command": f"make {made}", "makes": str(made)}], commands=["fit"]).run() == 0
    capfd.readouterr()
    assert runner(prepare=[{"command": f"make {made} --well", "makes": str(made)}], commands=["fit"]).run() == 1
    (told,) = capfd.readouterr().err.splitlines()
    assert told.startswith(f"prepare make: '{made}' was made by `ladic make {made}`, and the sweep file now says ")
    assert f"`ladic make {made} --well`; move it away to make it anew" in told
    (tmp_path / "made.prepared").write_text("half a ma")
    assert runner(prepare=[{"command": f"make {made}", "makes": str(made)}]).run() == 1
    assert "doesn't say what command made" in capfd.readouterr().err


def test_a_preparation_that_fails_is_told(runner, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert runner(prepare=[{"command": "test", "makes": "nothing"}]).run() == 1
    assert "prepare test: test ended with 3: error: the last; log: " in capfd.readouterr().err
    assert runner(prepare=[{"command": "fit", "makes": "nothing"}]).run() == 1
    assert "it made no 'nothing'" in capfd.readouterr().err
    assert not (tmp_path / "nothing.prepared").exists(), "what is put there by hand now is no leftover"
    assert runner(prepare=[{"command": "fit", "makes": "study.yaml/x"}]).run() == 1
    assert capfd.readouterr().err.startswith("prepare fit: [Errno 17] File exists")


SWEEP = "import sys; from ladic.sweep import running; running.LADIC = ({python!r}, '-c', {program!r})\n" + (
    "from ladic.sweep import Runner, read_sweep; from pathlib import Path\n"
    "sweep = read_sweep(Path({file!r})); runner = Runner(sweep, sweep.runs(), '')\n"
    "code = runner.run(); print('a table:', not runner.stopped); sys.exit(code)"
)


def process(file, **environment):
    """A sweep in a process of its own."""
    script = SWEEP.format(python=sys.executable, program=PROGRAM, file=str(file))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", script], env={**os.environ, **environment}, **pipes)


def start(file, **environment):
    """The same when its command has begun."""
    child = process(file, **environment)
    ready = file.parent / "out/a/seed-0/ready"
    deadline = time.monotonic() + 300
    while not ready.exists():
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return child


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_lets_the_command_save(write, tmp_path, number):
    child = start(write(commands=["predict"]))
    child.send_signal(number)
    out, err = child.communicate(timeout=300)
    assert child.returncode == 128 + number
    assert err == ""
    assert "[1/1] a, seed 0: predict saves and leaves" in out
    assert "[1/1] a, seed 0: stopped; the same command goes on from here" in out
    assert (tmp_path / "out/a/seed-0/log.txt").read_text().splitlines()[-1] == "saved"


def test_a_sweep_that_waits_for_another_says_so_once_and_can_be_stopped(write, tmp_path):
    made = tmp_path / "made"
    with alone(tmp_path / ".made.lock") as lock:
        assert lock is not None
        child = process(write(prepare=[{"command": f"make {made}", "makes": str(made)}]))
        assert child.stdout.readline() == "prepare make: waits for another process that is at it\n"
        time.sleep(0.5)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (128 + signal.SIGINT, "")
    assert out == "prepare make: stopped; the same command goes on from here\na table: False\n"
    assert not made.exists()


def test_in_a_job_the_sweep_goes_back_into_the_queue_and_its_command_knows_of_none(write, tmp_path):
    script = tmp_path / "scontrol"
    script.write_text('#!/bin/sh\necho "$@" >> "$(dirname "$0")/asked"\n')
    script.chmod(0o755)
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "x", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    child = start(write(commands=["predict"]), **job)
    child.send_signal(signal.SIGUSR1)
    out, _ = child.communicate(timeout=300)
    assert child.returncode == 0
    assert "requeueing job 7" in out
    assert "a table: False" in out, "the sweep that goes on makes it"
    assert (tmp_path / "asked").read_text() == "requeue 7\n"
    log = (tmp_path / "out/a/seed-0/log.txt").read_text()
    assert "env []" in log
    assert "saved" in log


def test_a_command_that_outlives_its_sweep_keeps_its_folder(write, runner, tmp_path, capfd):
    child = start(write(commands=["predict"]))
    child.kill()
    child.communicate()
    assert runner(commands=["predict"]).run() == 0
    assert "[1/1] a, seed 0: another process is at it" in capfd.readouterr().out
    os.kill(int((tmp_path / "out/a/seed-0/ready").read_text()), signal.SIGKILL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with alone(tmp_path / "out/a/seed-0/.lock") as lock:
            if lock is not None:
                return
        time.sleep(0.1)
    raise AssertionError("the lock is still held")
