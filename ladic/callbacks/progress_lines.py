"""Progress in a log file, where no bar can move: a line now and then."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from lightning import Callback, LightningModule, Trainer

from ladic.callbacks.training_clock import TrainingClock
from ladic.errors import UsageError


class ProgressLines(Callback):
    """Prints step, loss, captions per second and the time left, where standard output is no terminal.

    Of a validation, a test or a prediction it prints the batches that are through. ``ladic fit`` and its like add this
    by themselves and leave the bar to terminals.

    Args:
        seconds: between two lines.
    """

    def __init__(self, seconds: float = 30.0) -> None:
        if seconds < 0:
            raise UsageError(f"ProgressLines.seconds={seconds}: need 0 or more")
        self.seconds = seconds
        self._told = self._began = self._evaluates_since = 0.0
        self._first_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._told = self._began = time.monotonic()
        self._first_step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if self._is_time(trainer):
            print(self.line(trainer, self._told - self._began), flush=True)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._told = self._evaluates_since = time.monotonic()

    on_test_start = on_predict_start = on_validation_start

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *which: Any) -> None:
        if not trainer.sanity_checking:
            self._tell_batch("validation", trainer, trainer.num_val_batches, *which)

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, *which: Any) -> None:
        self._tell_batch("test", trainer, trainer.num_test_batches, *which)

    def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, *which: Any) -> None:
        self._tell_batch("predict", trainer, trainer.num_predict_batches, *which)

    def _tell_batch(
        self,
        name: str,
        trainer: Trainer,
        batches: Sequence[int | float],
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        done, last = sum(batches[:dataloader_idx]) + batch_idx + 1, sum(batches)
        if not self._is_time(trainer):
            return
        line = f"{name} batch {done:g}"
        if last < math.inf:
            left = timedelta(seconds=round((self._told - self._evaluates_since) / done * (last - done)))
            line += f"/{last:g}  {left} left"
        print(line, flush=True)

    def _is_time(self, trainer: Trainer) -> bool:
        """Whether a line is due; it is then told."""
        now = time.monotonic()
        if now - self._told < self.seconds or not trainer.is_global_zero or sys.stdout.isatty():
            return False
        self._told = now
        return True

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
