"""Progress in a log file, where no bar can move: a line now and then."""

from __future__ import annotations

import math
import sys
import time
from datetime import timedelta
from typing import Any

from lightning import Callback, LightningModule, Trainer

from ladic.callbacks.training_clock import TrainingClock
from ladic.errors import UsageError


class ProgressLines(Callback):
    """Prints step, loss, captions per second and the time left, where standard output is no terminal.

    ``ladic fit`` adds this by itself and leaves the bar to terminals.

    Args:
        seconds: between two lines.
    """

    def __init__(self, seconds: float = 30.0) -> None:
        if seconds < 0:
            raise UsageError(f"ProgressLines.seconds={seconds}: need 0 or more")
        self.seconds = seconds
        self._told = self._began = 0.0
        self._first_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._told = self._began = time.monotonic()
        self._first_step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        now = time.monotonic()
        if now - self._told < self.seconds or not trainer.is_global_zero or sys.stdout.isatty():
            return
        self._told = now
        print(self.line(trainer, now - self._began), flush=True)

    def line(self, trainer: Trainer, elapsed: float) -> str:
        """Where the run is, after so many seconds."""
        step, last = trainer.global_step, trainer.estimated_stepping_batches
        counted = 0 <= last < math.inf
        parts = [f"step {step}/{last:g}" if counted else f"step {step}"]
        numbers = trainer.progress_bar_metrics
        if "loss" in numbers:
            parts.append(f"loss {numbers['loss']:.4f}")
        if "train/captions_per_second" in numbers:
            parts.append(f"{numbers['train/captions_per_second']:.0f} captions/s")
        done = step - self._first_step
        clocks = [one for one in trainer.callbacks if isinstance(one, TrainingClock)]  # type: ignore[attr-defined]
        left = [60 * clock.minutes - clock.seconds() for clock in clocks if clock.minutes is not None]
        if done > 0 and counted:
            left.append(elapsed / done * (last - step))
        if left:
            parts.append(f"{timedelta(seconds=max(0, round(min(left))))} left")
        return "  ".join(parts)
