"""``ladic doctor``: its lines, its exit code, and ranks that answer or don't."""

import json
import os
import socket
import subprocess
import sys
from collections import namedtuple

import pytest
from tiny_run import error_line, write_config

from ladic.doctor import cluster, disk, machine
from ladic.doctor.rendezvous import place
from ladic.errors import UsageError


@pytest.fixture(autouse=True)
def _no_job(monkeypatch):
    for name in list(os.environ):
        if name.startswith("SLURM") or name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            monkeypatch.delenv(name)


def test_it_names_everything_a_run_depends_on(cli):
    done = cli("doctor", "--json")
    rows = json.loads(done.stdout)
    names = {row["name"] for row in rows}
    assert {"python", "libraries", "devices", "precision", "processors", "memory", "hub", "disk", "SLURM"} <= names
    assert done.code == any(row["verdict"] == "bad" for row in rows)
    text = cli("doctor").stdout
    assert all(f"  {name}" in text for name in names)


def test_the_disk_is_compared_with_what_the_run_will_write(cli, tmp_path, monkeypatch):
    config = write_config(tmp_path)
    told = {row["name"]: row for row in json.loads(cli("doctor", "-c", config, "--json").stdout)}
    assert told["disk"]["verdict"] == "ok"
    assert "where checkpoints will take" in told["disk"]["text"]
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage(1, 1, 10_000))
    done = cli("doctor", "-c", config)
    assert done.code == 1
    assert "make room" in done.stdout


def test_the_estimate_is_what_a_run_writes(cli, trained, monkeypatch):
    from ladic.cli.lightning_cli import built

    cli_of = built(["-c", str(trained.parent / "tiny.yaml")])
    files = list(trained.rglob("*.ckpt"))  # best, last and resume; the one being written makes a fourth
    written = sum(file.stat().st_size for file in files) / len(files) * 4
    # A file also has names, settings and the tokenizer's text, which count in a model as small as this.
    assert 0.3 * written < disk.checkpoint_bytes(cli_of.model, cli_of.trainer.callbacks) < 1.1 * written


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--timeout", "0"], "--timeout 0: seconds, more than 0"),
        (["--", "--data.batch_size=2"], "give one with -c FILE"),
        (["--ranks"], "srun ladic doctor --ranks"),
        (["-c", "gone.yaml"], "no such file"),
    ],
)
def test_wrong_words(cli, words, message):
    done = cli("doctor", *words)
    assert done.code == 2
    assert message in error_line(done.stderr)


def test_an_unreachable_hub_is_a_note(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        found = machine.hub_reach(timeout=1)
        assert (found.verdict, "doesn't answer" in found.text) == ("note", True)
        closed.listen()
        assert machine.hub_reach(timeout=1).verdict == "ok"


def test_a_job_that_does_not_fit_the_trainer(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ladic"])
    job = {"JOB_ID": "71234", "JOB_NAME": "x", "NTASKS": "4", "NTASKS_PER_NODE": "2", "JOB_NUM_NODES": "2",
           "PROCID": "3", "LOCALID": "1", "NODEID": "1", "NODELIST": "node[1-2]"}  # fmt: skip
    for name, value in job.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.1")
    found = {finding.name: finding for finding in cluster.cluster_findings(num_nodes=2, devices=2)}
    assert found["Lightning"].text == "rank 3 of 4, master 10.0.0.1:16234"
    assert all(finding.verdict == "ok" for finding in found.values())
    found = {finding.name: finding for finding in cluster.cluster_findings(num_nodes=1, devices="4")}
    assert found["trainer.num_nodes"].text == "1, but the job has 2: give that"
    assert found["trainer.devices"].text == "4, but the job has 2 tasks a node: give that"
    assert place() == (3, 4, "10.0.0.1", 16234)
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "MASTER_PORT": "29501"}.items():  # torchrun in its tasks
        monkeypatch.setenv(name, value)
    assert place() == (5, 8, "10.0.0.1", 29501)


def test_tasks_asked_for_in_a_way_that_lightning_refuses(monkeypatch):
    for name, value in {"JOB_ID": "7", "JOB_NAME": "x", "NTASKS": "2", "PROCID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    with pytest.raises(UsageError, match=r"SLURM: .*--ntasks-per-node"):
        place()


def test_hosts_of_ranks(monkeypatch, tmp_path):
    script = tmp_path / "scontrol"
    script.write_text("#!/bin/sh\necho node1; echo node2\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "node[1-2]")
    monkeypatch.setenv("SLURM_TASKS_PER_NODE", "2,1")
    assert [cluster.host_of_rank(rank) for rank in range(4)] == ["node1", "node1", "node2", None]


def test_without_a_launcher_there_are_no_ranks():
    with pytest.raises(UsageError, match="start one process a rank"):
        place()


def start(rank, world, port, timeout):
    environment = {**os.environ, "RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1",
                   "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}  # fmt: skip
    words = [sys.executable, "-m", "ladic", "doctor", "--ranks", "--timeout", str(timeout)]
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def finish(process):
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    return process.returncode, out + err


def test_ranks_that_all_answer():
    port = free_port()
    done = [finish(process) for process in [start(rank, 2, port, 60) for rank in range(2)]]
    for rank, (code, text) in enumerate(done):
        assert code == 0, text
        assert f"rank {rank} on {socket.gethostname()}" in text
        assert "gloo sums over 2 ranks on 1 host" in text


def test_a_rank_that_does_not_answer_is_named():
    code, text = finish(start(0, 2, free_port(), 3))
    assert code == 1
    assert "no answer within 3 s from rank 1 on an unknown host" in text


def test_a_master_that_does_not_answer_is_named():
    port = free_port()
    code, text = finish(start(1, 2, port, 3))
    assert code == 1
    assert f"the master 127.0.0.1:{port} doesn't answer within 3 s" in text
