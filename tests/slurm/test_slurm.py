"""The shipped batch scripts on a real SLURM of two nodes in one machine. Run: LADIC_SLURM=1 pytest tests/slurm

Needs root, and Debian's slurm-wlm and munge. It takes some minutes, so it is no part of `make test`.
"""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

if os.environ.get("LADIC_SLURM") != "1":
    pytest.skip("a real SLURM is started only with LADIC_SLURM=1", allow_module_level=True)
if shutil.which("slurmctld") is None or os.getuid() != 0:
    pytest.skip("needs root and Debian's slurm-wlm and munge", allow_module_level=True)

from tiny_run import tiny_config, write_config

from ladic.checkpoints import read_checkpoint

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
STEPS = 12
PATIENCE = float(os.environ.get("LADIC_PATIENCE", "1"))
"""Times as long as usual that things may take, for a machine with much else to do."""


class Cluster:
    """Two nodes; jobs run in ``folder``."""

    def __init__(self, folder):
        self.folder, self.run = folder, folder / "slurm"
        paths = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment = {
            **os.environ, "PATH": paths, "SLURM_CONF": str(self.run / "slurm.conf"), "OMP_NUM_THREADS": "1",
            "MASTER_ADDR": "127.0.0.1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": f"{HERE}:{HERE.parent}",
            "GLOO_SOCKET_IFNAME": "lo",
        }  # fmt: skip

    def call(self, *words, check=True):
        done = subprocess.run(
            [str(word) for word in words], cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def submit(self, script, *words, options=()):
        job = self.call("sbatch", "--parsable", "--nodes=2", *options, ROOT / "configs" / "slurm" / script, *words)
        return int(job)

    def field(self, job, name):
        shown = self.call("scontrol", "show", "job", job)
        return next(word.partition("=")[2] for word in shown.split() if word.startswith(f"{name}="))

    def wait(self, job, state="COMPLETED", seconds=180):
        """Until the job is in a state; a requeued job is let go at once instead of after two minutes."""
        deadline = time.monotonic() + seconds * PATIENCE
        while (now := self.field(job, "JobState")) != state:
            assert time.monotonic() < deadline, f"job {job} is {now}\n{self.output(job)[-3000:]}"
            assert now not in {"FAILED", "TIMEOUT", "CANCELLED"} - {state}, self.output(job)[-3000:]
            if now == "PENDING" and self.field(job, "Restarts") != "0":
                self.call("scontrol", "update", f"JobId={job}", "StartTime=now", check=False)
            time.sleep(0.5)

    def wait_for_step(self, job, step, seconds=120):
        file, deadline = self.folder / f"runs/ladic-{job}/steps-0.txt", time.monotonic() + seconds * PATIENCE
        while not (file.is_file() and f"\n{step} " in "\n" + file.read_text()):
            assert time.monotonic() < deadline, self.output(job)[-3000:]
            time.sleep(0.1)

    def output(self, job):
        file = self.folder / f"slurm-{job}.out"
        return file.read_text() if file.is_file() else ""

    def steps(self, job, rank=0):
        lines = (self.folder / f"runs/ladic-{job}/steps-{rank}.txt").read_text().splitlines()
        return [int(line.split()[0]) for line in lines]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    found = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        subprocess.run([HERE / "up.sh", found.run], check=True)
        yield found
    finally:
        subprocess.run([HERE / "down.sh", found.run], check=False)


def configure(folder, batch_size):
    """Twelve steps of eight captions, in epochs of five, validated every four; no dropout, which each rank draws."""
    config = tiny_config(folder)
    config["data"]["init_args"] |= {"num_train": 40, "num_eval": 9, "unit": "image", "batch_size": batch_size,
                                    "eval_batch_size": 2}  # fmt: skip
    config["trainer"] |= {"max_steps": STEPS, "val_check_interval": 4, "check_val_every_n_epoch": None}
    del config["trainer"]["default_root_dir"]
    ema = {"class_path": "ladic.callbacks.WeightAverage", "init_args": {"decay": 0.9}}
    pace = {"class_path": "slurm_callbacks.Pace"}
    evaluation = {"class_path": "ladic.callbacks.CaptionEvaluation", "init_args": {"control": True}}
    config["trainer"]["callbacks"] = [ema, pace, evaluation]
    return config


@pytest.fixture(scope="module")
def config(cluster):
    return write_config(cluster.folder, configure(cluster.folder, batch_size=4), "two.yaml")


def train(cluster, config, *words, options=()):
    """A job; its checkpoints go to its own folder, which only the batch script knows."""
    return cluster.submit("train.sbatch", "-c", config, *words, options=options)


def final(cluster, job):
    files = sorted((cluster.folder / f"runs/ladic-{job}").rglob("*.ckpt"), key=lambda file: file.stat().st_mtime)
    found = [read_checkpoint(file) for file in files]
    return max(found, key=lambda one: one["global_step"])


@pytest.fixture(scope="module")
def unbroken(cluster, config):
    job = train(cluster, config)
    cluster.wait(job)
    return job


def losses(folder):
    rows = [row for file in folder.rglob("metrics.csv") for row in csv.DictReader(file.open())]
    return {int(row["step"]): float(row["train/loss"]) for row in rows if row.get("train/loss")}


def same(first, second):
    return [
        f"{state}.{name}"
        for state in ("state_dict", "current_model_state")
        for name, value in first[state].items()
        if not torch.equal(value, second[state][name])
    ]


def test_two_nodes_do_what_one_process_does(cluster, config, unbroken):
    assert "effective batch 8 = 4 x 2 processes (2 nodes)" in cluster.output(unbroken)
    assert cluster.steps(unbroken, 0) == cluster.steps(unbroken, 1) == list(range(1, STEPS + 1))
    nodes = {(cluster.folder / f"runs/ladic-{unbroken}/steps-{rank}.txt").read_text().split()[1] for rank in range(2)}
    assert nodes == {"node1", "node2"}
    alone = yaml.safe_load(config.read_text())
    alone["data"]["init_args"]["batch_size"] = 8
    file = write_config(cluster.folder, alone, "one.yaml")
    cluster.call("ladic", "fit", "-c", file, "--trainer.default_root_dir=alone", "--trainer.logger=CSVLogger",
                 "--trainer.logger.save_dir=alone")  # fmt: skip
    ours, theirs = losses(cluster.folder / f"runs/ladic-{unbroken}"), losses(cluster.folder / "alone")
    assert ours.keys() == theirs.keys() == set(range(STEPS))
    assert max(abs(ours[step] - theirs[step]) for step in ours) < 1e-4


def test_captions_and_scores_are_those_of_one_process(cluster, config, unbroken):
    checkpoint = f"--ckpt_path={cluster.folder}/runs/ladic-{unbroken}"
    job = cluster.submit("evaluate.sbatch", "-c", config, checkpoint)
    cluster.wait(job)
    cluster.call(
        "ladic", "test", "-c", config, checkpoint, "--trainer.default_root_dir=tested", "--trainer.logger=false"
    )
    two, one = cluster.folder / f"runs/ladic-evaluate-{job}", cluster.folder / "tested"
    for name in ("results_test.json", "per_image_test.json"):
        assert (two / name).read_text() == (one / name).read_text()
    scores = [json.loads((folder / "scores_test.json").read_text()) for folder in (two, one)]
    assert scores[0]["scores"] == scores[1]["scores"]
    assert [found["processes"] for found in scores] == [2, 1]
    assert scores[0]["images"] == 9  # an odd number: the padding of the last batch is not scored


def kill_node(cluster, job):
    """Takes node2 away with all that runs on it, as a power cut would; SLURM is told, which else takes it minutes."""
    os.kill(int((cluster.run / "slurmd.node2.pid").read_text()), signal.SIGKILL)
    cluster.call("scontrol", "update", "NodeName=node2", "State=DOWN", "Reason=test")
    here = {b"SLURMD_NODENAME=node2", f"SLURM_JOB_ID={job}".encode()}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if here <= set((process / "environ").read_bytes().split(b"\0")):
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:  # it ended in the meantime
            continue


@pytest.mark.parametrize("how", ["signal", "requeue", "node", "preemption", "preemption before it began"])
def test_an_interrupted_job_goes_on_to_the_same_weights(cluster, config, unbroken, how):
    job = train(cluster, config, "--checkpoint_minutes=0")
    if how == "preemption before it began":
        cluster.wait(job, "RUNNING", seconds=60)
        time.sleep(2)  # it still imports
    else:
        cluster.wait_for_step(job, 3)  # in the middle of the first epoch
    if how == "signal":
        cluster.call("scancel", "--signal=USR1", job)
    elif how == "requeue":
        cluster.call("scontrol", "requeue", job)
    elif how == "node":
        kill_node(cluster, job)
        time.sleep(2)
        cluster.call("slurmd", "-N", "node2", "-f", cluster.run / "slurm.conf")  # comes back into service by itself
    else:
        urgent = cluster.call(
            "sbatch", "--parsable", "--partition=high", "--nodes=2", "--exclusive", "--wrap=srun sleep 3"
        )
        cluster.wait(urgent, seconds=240)
    cluster.wait(job, seconds=240)
    assert cluster.field(job, "Restarts") == "1"
    steps = cluster.steps(job)
    assert steps[-1] == STEPS
    assert len(steps) - STEPS <= 2, steps  # at most the steps since the last save are taken twice
    if how == "signal":
        assert steps == list(range(1, STEPS + 1)), steps
        assert f"requeueing job {job}" in cluster.output(job)
    assert same(final(cluster, unbroken), final(cluster, job)) == []


def test_two_jobs_in_one_folder_leave_each_other_alone(cluster, config, unbroken):
    jobs = [train(cluster, config), train(cluster, config)]
    for job in jobs:
        cluster.wait(job, seconds=240)
    for job in jobs:
        assert cluster.steps(job) == list(range(1, STEPS + 1))
        assert same(final(cluster, unbroken), final(cluster, job)) == []


def test_sharded_by_a_flag(cluster, config, unbroken):
    job = train(cluster, config, "--trainer.strategy=fsdp", "--checkpoint_minutes=0")
    cluster.wait_for_step(job, 3)
    cluster.call("scancel", "--signal=USR1", job)
    cluster.wait(job, seconds=240)
    assert cluster.steps(job) == list(range(1, STEPS + 1))
    ours, theirs = final(cluster, job), final(cluster, unbroken)
    assert ours["state_dict"].keys() == theirs["state_dict"].keys()
    far = [
        (ours[state][name].float() - theirs[state][name].float()).abs().max()
        for state in ("state_dict", "current_model_state")
        for name in theirs[state]
    ]
    assert max(far) < 1e-4


def test_an_array_is_a_run_for_each_line_of_flags(cluster):
    config = write_config(cluster.folder, configure(cluster.folder, batch_size=4), "array.yaml")
    (cluster.folder / "flags.txt").write_text("--trainer.max_steps=2\n--trainer.max_steps=3 --seed_everything=1\n")
    script = ROOT / "configs" / "slurm" / "array.sbatch"
    job = int(cluster.call("sbatch", "--parsable", "--array=1-2", "--nodes=1", script, "flags.txt", "-c", config))
    for task in (1, 2):
        cluster.wait(f"{job}_{task}")
        found = [read_checkpoint(file) for file in (cluster.folder / f"runs/ladic-array-{job}_{task}").rglob("*.ckpt")]
        assert max(one["global_step"] for one in found) == task + 1


def test_a_cancelled_job_stays_cancelled(cluster, config):
    job = train(cluster, config)
    cluster.wait_for_step(job, 2)
    cluster.call("scancel", job)
    cluster.wait(job, "CANCELLED", seconds=60)
    time.sleep(2)
    assert cluster.field(job, "Restarts") == "0"


def test_the_doctor_meets_all_ranks(cluster):
    text = cluster.call("srun", "--nodes=2", "--ntasks-per-node=1", "ladic", "doctor", "--ranks", "--timeout=300")
    assert text.count("gloo sums over 2 ranks on 2 hosts (node1, node2)") == 2


def test_the_doctor_names_the_host_that_does_not_answer(cluster):
    asleep = 'if [ "$SLURM_PROCID" = 1 ]; then sleep 600; else exec ladic doctor --ranks --timeout=20; fi'
    text = cluster.call(
        "srun", "--nodes=2", "--ntasks-per-node=1", "--kill-on-bad-exit=1", "bash", "-c", asleep, check=False
    )
    assert "no answer within 20 s from rank 1 on node2" in text
