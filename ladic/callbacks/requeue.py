"""Stopping at a step boundary when the cluster asks, with a checkpoint from which the same run goes on."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from ladic.errors import UsageError
from ladic.slurm import EarlySignals, requeue, slurm_job, was_preempted

RESUME = "resume.ckpt"
"""The file in a run's folder that ``Requeue`` writes, each time over the last."""

NOTHING, SAVE, REQUEUE, STOP = range(4)
MEANING = {signal.SIGUSR1: REQUEUE, signal.SIGTERM: STOP}


class Stopped(SystemExit):
    """Ends a run that was asked to stop and has saved its checkpoint. Its exit code is 0 where SLURM requeues it."""


class Requeue(Callback):
    """Saves ``resume.ckpt`` on a signal, every few minutes, and after the last step.

    The handlers only take a note. After the next optimiser step all ranks agree, save together, and leave:

    - SIGUSR1 (``sbatch --signal=SIGUSR1@120``): the job is requeued and goes on at that step.
    - SIGTERM: the same if SLURM preempts the job; a job that was cancelled, or runs without SLURM, ends.

    In a job, signals are noted from the start of the command on (``EarlySignals``) and obeyed after the first step.
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
        self.early: EarlySignals | None = None
        self._before: dict[int, Any] = {}
        self._saved_at = 0.0
        self._step = -1

    # Handlers of this process; a handler that outlived the run would make the process deaf to SIGTERM.

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.asked = NOTHING
        for number in self.early.numbers if self.early is not None else ():
            self._note(number, None)
        if stage == "fit" and slurm_job() is not None:  # elsewhere, what has not begun may as well be killed
            self._listen()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved_at, self._step = time.monotonic(), trainer.global_step
        self._listen()

    def _listen(self) -> None:
        for number in MEANING:
            try:
                before = signal.signal(number, self._note)
            except ValueError:  # not the main thread: whoever runs us there handles signals
                break
            self._before.setdefault(number, before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = max(self.asked, MEANING[signal.Signals(number)])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore_handlers()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._restore_handlers()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before.clear()

    # What happens at a step boundary.

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Counts the epoch as begun where Lightning (2.6) doesn't: when the run goes on from the end of the one before.

        A checkpoint of such an epoch would take its samples from the wrong place when the run goes on a second time.
        """
        progress = trainer.fit_loop.epoch_progress
        counts: Any
        for counts in (progress.current, progress.total):
            counts.ready = counts.started = max(counts.ready, counts.processed + 1)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == self._step:
            return  # in the middle of accumulating gradients
        self._step = trainer.global_step
        wanted = NOTHING if self._step % self.check_every_n_steps else self._agreed(trainer)
        # Lightning saves as it validates: where the end lies between two validations, it would be lost.
        if wanted or self._step == trainer.max_steps or trainer.should_stop:
            self._save(trainer)
        if wanted > SAVE:
            self._leave(trainer, wanted)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self._save(trainer)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        # All ranks ask, since every one has as many batches: the sampler, or EvaluationShards, repeats what is last.
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
