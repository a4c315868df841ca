"""What happens when a step's loss or gradients are no numbers."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import Callback, LightningModule, Trainer

from ladic.errors import UsageError
from ladic.json_files import write_json

log = logging.getLogger(__name__)


class FiniteLoss(Callback):
    """Stops, or leaves a step out, where a loss or gradient is NaN or infinite, and says which samples it was.

    ``nonfinite-STEP-RANK.json`` in the run's folder holds the image ids, captions and losses of the step's batches.
    All ranks decide alike: with averaged gradients one rank's NaN is everybody's.

    Args:
        action: "stop" ends the run before the weights change; "skip" leaves them as they are and goes on.
        patience: steps in a row that may be skipped before the run stops anyway.
    """

    def __init__(self, action: Literal["stop", "skip"] = "stop", patience: int = 10) -> None:
        if action not in ("stop", "skip"):
            raise UsageError(f"FiniteLoss.action='{action}': accepted are 'stop' and 'skip'")
        self.action, self.patience = action, patience
        self._batches: list[dict[str, Any]] = []
        self._losses: list[float] = []
        self._in_a_row = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.accumulate_grad_batches == 1 or batch_idx % trainer.accumulate_grad_batches == 0:
            self._batches, self._losses = [], []
        self._batches.append(batch)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: torch.Tensor) -> None:
        self._losses.append(loss.detach())  # type: ignore[arg-type]  # read only when needed: no wait for the device

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        # With float16 the scaler looks for overflow itself, and expects some: only the losses count.
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        numbers = [torch.stack([torch.as_tensor(loss).float() for loss in self._losses]).sum()]
        if gradients and not scaled:
            norm = torch.nn.utils.get_total_norm(gradients)
            numbers.append(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)  # of shards: over all ranks
        finite = bool(torch.isfinite(torch.stack([number.to(numbers[0].device) for number in numbers])).all())
        if trainer.strategy.reduce_boolean_decision(finite, all=True):
            self._in_a_row = 0
            return
        self._in_a_row += 1
        file = self._dump(trainer, pl_module)
        told = f"training: loss or gradient of step {trainer.global_step} is not finite; its samples are in '{file}'"
        if self.action == "stop" or self._in_a_row > self.patience:
            again = f" ({self._in_a_row} steps in a row)" if self._in_a_row > 1 else ""
            raise UsageError(f"{told}{again}; lower the learning rate, clip gradients, or skip such steps (--nan=skip)")
        log.warning("%s; the step is left out", told)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None  # optimisers leave parameters without a gradient alone

    def _dump(self, trainer: Trainer, pl_module: LightningModule) -> Path:
        file = Path(trainer.default_root_dir) / f"nonfinite-{trainer.global_step}-{trainer.global_rank}.json"
        ids = [list(batch["image_id"]) for batch in self._batches]
        losses = [float(loss) for loss in self._losses]
        captions = [self._captions(pl_module, batch) for batch in self._batches]
        write_json(
            file,
            {
                "step": trainer.global_step,
                "epoch": trainer.current_epoch,
                "rank": trainer.global_rank,
                "losses": [loss if math.isfinite(loss) else str(loss) for loss in losses],
                "image_id": ids,
                "captions": captions,
            },
        )
        log.warning("step %d, rank %d: losses %s, images %s", trainer.global_step, trainer.global_rank, losses, ids)
        return file

    @staticmethod
    def _captions(pl_module: LightningModule, batch: Any) -> list[str]:
        tokenizer = getattr(pl_module, "tokenizer", None)
        if tokenizer is None or "input_ids" not in batch:
            return []
        return [tokenizer.decode(row, skip_special_tokens=True) for row in batch["input_ids"].tolist()]
