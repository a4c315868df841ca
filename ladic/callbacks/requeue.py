"""Stopping at a step boundary when the cluster asks, with a checkpoint from which the same run goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from ladic.errors import UsageError

RESUME = "resume.ckpt"
"""The file in a run's folder that ``Requeue`` writes, each time over the last."""

NOTHING, SAVE, REQUEUE, STOP = range(4)
SIGNALS = {signal.SIGUSR1: REQUEUE, signal.SIGTERM: STOP}


class Stopped(SystemExit):
    """Ends a run that was asked to stop and has saved its checkpoint. Its exit code is 0 where SLURM requeues it."""


class Requeue(Callback):
    """Saves ``resume.ckpt`` on a signal, and every few minutes.

    The handlers only take a note. After the next optimiser step all ranks agree, save together, and leave:

    - SIGUSR1 (``sbatch --signal=SIGUSR1@120``): the job is requeued and goes on at that step.
    - SIGTERM: the same if SLURM preempts the job; a job that was cancelled, or runs without SLURM, ends.

    A signal during validation is obeyed at its next batch, with the checkpoint that was saved as validation began:
    averaged weights are swapped in there, and a later checkpoint would mix them up.

    ``ladic fit`` adds this by itself, after all callbacks that change weights.

    Args:
        minutes: between two saves without a signal; null for none.
        check_every_n_steps: how often ranks ask each other.
    """

    def __init__(self, minutes: float | None = 10.0, check_every_n_steps: int = 1) -> None:
        if minutes is not None and minutes < 0:
            raise UsageError(f"Requeue.minutes={minutes}: need at least 0, or null")
        if check_every_n_steps < 1:
            raise UsageError(f"Requeue.check_every_n_steps={check_every_n_steps}: need at least 1")
        self.minutes, self.check_every_n_steps = minutes, check_every_n_steps
        self.asked = NOTHING
        self._before: dict[int, Any] = {}
        self._saved_at = 0.0
        self._step = -1

    # Handlers of this process; a handler that outlived the run would make the process deaf to SIGTERM.

    # Lightning installs its own between on_fit_start and on_train_start.

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.asked, self._saved_at, self._step = NOTHING, time.monotonic(), trainer.global_step
        for number in SIGNALS:
            try:
                self._before[number] = signal.signal(number, self._note)
            except ValueError:  # not the main thread: whoever runs us there handles signals
                break

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = max(self.asked, SIGNALS[signal.Signals(number)])

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._restore_handlers()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before.clear()

    # What happens at a step boundary.

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == self._step or trainer.global_step % self.check_every_n_steps:
            return  # in the middle of accumulating gradients
        self._step = trainer.global_step
        wanted = self._agreed(trainer)
        if wanted:
            self._save(trainer)
        if wanted > SAVE:
            self._leave(trainer, wanted)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self._save(trainer)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        # With an uneven last batch, ranks would not all ask: every rank has as many batches, by the sampler's padding.
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            wanted = self._agreed(trainer)
            if wanted > SAVE:
                self._leave(trainer, wanted)

    def _agreed(self, trainer: Trainer) -> int:
        """The most that any rank was asked for, the same on all of them."""
        mine = self.asked
        if mine == NOTHING and self.minutes is not None and time.monotonic() - self._saved_at > 60 * self.minutes:
            mine = SAVE
        if trainer.world_size == 1:
            return mine
        return int(trainer.strategy.reduce(torch.tensor(mine, device=trainer.strategy.root_device), reduce_op="max"))

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(Path(trainer.default_root_dir) / RESUME)
        self._saved_at = time.monotonic()

    def _leave(self, trainer: Trainer, wanted: int) -> None:
        self._restore_handlers()
        trainer.strategy.barrier("requeue")
        job = slurm_job()
        again = job is not None and (wanted == REQUEUE or was_preempted(job))
        if trainer.is_global_zero:
            what = f"requeueing job {job}" if again else "go on with the same command and --ckpt_path=auto"
            path = Path(trainer.default_root_dir) / RESUME
            print(f"stopped at step {trainer.global_step}, saved '{path}'; {what}", file=sys.stderr, flush=True)
            if again:
                assert job is not None
                requeue(job)
        trainer.strategy.barrier("requeued")
        raise Stopped(0 if again else 128 + (signal.SIGUSR1 if wanted == REQUEUE else signal.SIGTERM))


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
