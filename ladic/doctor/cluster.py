"""SLURM's variables and what Lightning makes of them."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

from ladic.doctor.finding import Finding
from ladic.errors import UsageError

SHOWN = (
    "SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_JOB_NODELIST", "SLURM_JOB_NUM_NODES", "SLURM_NTASKS",
    "SLURM_NTASKS_PER_NODE", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_RESTART_COUNT",
)  # fmt: skip


def cluster_findings(num_nodes: int | None = None, devices: str | int | None = None) -> list[Finding]:
    """What this job is, and whether a trainer of so many nodes and devices fits it.

    Args:
        num_nodes: ``trainer.num_nodes`` of the configuration, if one was given.
        devices: ``trainer.devices``.
    """
    if "SLURM_JOB_ID" not in os.environ:
        scontrol = shutil.which("scontrol")
        where = "submit configs/slurm/train.sbatch" if scontrol else "no scontrol on the PATH"
        return [Finding("SLURM", "ok" if scontrol else "note", f"not inside a job ({where})")]
    from lightning.pytorch.plugins.environments import SLURMEnvironment

    told = ", ".join(f"{name.removeprefix('SLURM_')}={os.environ[name]}" for name in SHOWN if name in os.environ)
    findings = [Finding("SLURM", "ok", told)]
    if not SLURMEnvironment.detect():
        text = "takes this for an interactive job and starts the processes itself; with `srun ladic …` SLURM does"
        return [*findings, Finding("Lightning", "note", text)]
    environment = slurm_environment()
    world = environment.world_size()
    findings.append(
        Finding(
            "Lightning",
            "ok",
            f"rank {environment.global_rank()} of {world}, master {environment.main_address}:{environment.main_port}",
        )
    )
    nodes = int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))
    per_node = os.environ.get("SLURM_NTASKS_PER_NODE", "")
    if num_nodes is not None and num_nodes != nodes:
        findings.append(Finding("trainer.num_nodes", "bad", f"{num_nodes}, but the job has {nodes}: give that"))
    if str(devices).isdigit() and per_node.isdigit() and int(str(devices)) != int(per_node):
        findings.append(
            Finding("trainer.devices", "bad", f"{devices}, but the job has {per_node} tasks a node: give that")
        )
    return findings


def slurm_environment() -> Any:
    """Lightning's view of this job, without its requeueing: that saves inside the signal handler.

    Raises:
        UsageError: if the job's tasks were not asked for as Lightning wants them.
    """
    from lightning.pytorch.plugins.environments import SLURMEnvironment

    try:
        return SLURMEnvironment(auto_requeue=False)
    except RuntimeError as error:
        raise UsageError(f"SLURM: {' '.join(str(error).split())}") from error


def host_of_rank(rank: int) -> str | None:
    """The node that SLURM put a rank on (tasks fill one node after the other); None outside a job."""
    nodes, tasks = os.environ.get("SLURM_JOB_NODELIST"), os.environ.get("SLURM_TASKS_PER_NODE")
    if nodes is None or tasks is None:
        return None
    try:
        asked = ["scontrol", "show", "hostnames", nodes]
        names = subprocess.run(asked, capture_output=True, text=True, timeout=10).stdout.split()
    except (OSError, subprocess.TimeoutExpired):
        return None
    for name, count in zip(names, tasks_of_nodes(tasks), strict=False):
        if rank < count:
            return name
        rank -= count
    return None


def tasks_of_nodes(text: str) -> list[int]:
    """SLURM's short way of writing tasks for each node.

    >>> tasks_of_nodes("2(x3),1")
    [2, 2, 2, 1]
    """
    counts: list[int] = []
    for part in text.split(","):
        number, _, repeat = part.partition("(x")
        counts += [int(number)] * int(repeat.rstrip(")") or 1)
    return counts
