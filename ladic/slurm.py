"""A SLURM job seen from inside: its id, putting it back into the queue, and signals that come before training can obey.

Kept free of torch: it is needed in the first moment of a run.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess

from ladic.errors import UsageError
from ladic.signals import NotedSignals

SIGNALS = (signal.SIGUSR1, signal.SIGTERM)
"""What a cluster sends to a job that has to make room: the first by ``--signal``, the second before it kills."""


class EarlySignals(NotedSignals):
    """Notes signals while a job still imports and builds, instead of dying of them.

    A job that dies in the time of grace before its preemption is not requeued; one that goes on is, and one that
    reaches its first step saves as well. ``Requeue`` takes over what was noted. Outside a job nothing changes.

    Example:
        ``with EarlySignals() as early: train(); print(early.numbers)``
    """

    def __init__(self) -> None:
        super().__init__(SIGNALS if slurm_job() is not None else ())

    def __enter__(self) -> EarlySignals:
        super().__enter__()
        return self


def slurm_job() -> str | None:
    """Id of the SLURM batch job this runs in (with ``_TASK`` in an array); None elsewhere and in interactive ones."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return None
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else job


def was_preempted(job: str) -> bool:
    """Whether SLURM says that the job makes room for another, rather than having been cancelled."""
    try:
        shown = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    found = re.search(r"\bPreemptTime=(\S+)", shown)
    return found is not None and found[1] not in ("None", "N/A", "Unknown")


def requeue(job: str) -> None:
    """Puts a job back into the queue.

    Raises:
        UsageError: if SLURM refuses; the checkpoint is there.
    """
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60)
        reason = done.stderr.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        reason, done = str(error), None
    if done is None or done.returncode:
        raise UsageError(f"scontrol requeue {job}: {reason or 'failed'}; submit the job again, it goes on where it was")
