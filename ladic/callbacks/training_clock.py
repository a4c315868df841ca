"""How long training took, and the end of a run that may take so long and no longer."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from ladic.errors import UsageError


class TrainingClock(Callback):
    """Counts the time of training steps, over all sittings of a run, and ends the run when its time is up.

    Validations don't count, so that runs with a limit train equally long, however long they take for captions. What
    came after the checkpoint that a run goes on from doesn't count either: its steps are lost, too. The learning rate
    follows the share of the time (``ladic.optim``), and ``train/minutes`` is logged.

    ``ladic fit`` adds this by itself and puts it in the place of Lightning's Timer, so that ``trainer.max_time`` is its
    limit.

    Args:
        minutes: of training; null for no limit.
    """

    def __init__(self, minutes: float | None = None) -> None:
        if minutes is not None and not minutes > 0:
            raise UsageError(f"TrainingClock.minutes={minutes}: need more than 0, or null for no limit")
        self.minutes = minutes
        self._seconds = 0.0  # of what is over
        self._since: float | None = None  # when the clock was started, while it runs
        self._training = False
        self._agreed = 0.0  # what all ranks go by

    def seconds(self) -> float:
        """Of training until now, on this rank."""
        return self._seconds + (0.0 if self._since is None else time.monotonic() - self._since)

    def share(self) -> float:
        """Of the limit, as of the last optimiser step; the same on all ranks, and above 1 after the end."""
        assert self.minutes is not None
        return self._agreed / (60 * self.minutes)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and self.minutes is not None:
            pl_module.time_spent = self.share  # type: ignore[assignment]

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._seconds = float(state_dict["seconds"])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A run whose time was up is over."""
        self._agree(trainer)
        self._end_if_over(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._training, self._since = True, time.monotonic()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._pause()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._training:
            self._since = time.monotonic()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Here, because the learning rate of the next step is set right after this one."""
        self._agree(trainer)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        pl_module.log("train/minutes", self.seconds() / 60, batch_size=1)
        self._end_if_over(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._training = False
        self._pause()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._training = False
        self._pause()

    def _pause(self) -> None:
        self._seconds, self._since = self.seconds(), None

    def _agree(self, trainer: Trainer) -> None:
        """Takes the time of the first rank: with their own, ranks would part in learning rates and in their end."""
        self._agreed = self.seconds()
        if self.minutes is not None and trainer.world_size > 1:
            self._agreed = float(trainer.strategy.broadcast(self._agreed))

    def _end_if_over(self, trainer: Trainer) -> None:
        if self.minutes is None or self.share() < 1 or trainer.should_stop:
            return
        rank_zero_info(f"step {trainer.global_step}: the {timedelta(minutes=self.minutes)} of training are over")
        trainer.should_stop = True
