"""The effective batch, the learning rate and the steps of a run, told when it begins."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any, Literal

from lightning import Callback, LightningModule, Trainer

from ladic.callbacks.training_clock import TrainingClock
from ladic.errors import UsageError

ScaleRule = Literal["none", "linear", "sqrt"]


class BatchPlan(Callback):
    """Prints one line, and scales the learning rate by the size of the global batch if asked.

    Args:
        scale_lr: "linear" (Goyal et al. 2017, section 2.1) multiplies every learning rate by global batch / base,
            "sqrt" by its root (usual for Adam), "none" leaves them.
        base_batch_size: the global batch that the configured learning rate is meant for; ``data.batch_size`` if null.
    """

    def __init__(self, scale_lr: ScaleRule = "none", base_batch_size: int | None = None) -> None:
        if scale_lr not in ("none", "linear", "sqrt"):
            raise UsageError(f"scale_lr='{scale_lr}': accepted are 'none', 'linear' and 'sqrt'")
        if base_batch_size is not None and base_batch_size < 1:
            raise UsageError(f"base_batch_size={base_batch_size}: need at least 1")
        self.scale_lr, self.base_batch_size = scale_lr, base_batch_size
        self._rates: list[dict[str, float]] = []  # scaled, by name, of each parameter group

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit" or self.scale_lr == "none":
            return
        build, factor = pl_module.optimizer, self.factor(trainer)

        def scaled(groups: Any) -> Any:
            """The model's own optimiser; its schedule then starts from the scaled rates."""
            optimizer = build(groups)  # type: ignore[operator]
            self._rates = []
            for group in optimizer.param_groups:
                names = [name for name in group if name == "lr" or name.endswith("_lr")]
                self._rates.append({name: factor * group[name] for name in names})
                group.update(self._rates[-1])
            return optimizer

        pl_module.optimizer = scaled  # type: ignore[assignment]

    def factor(self, trainer: Trainer) -> float:
        """What learning rates are multiplied by."""
        ratio = global_batch(trainer) / (self.base_batch_size or trainer.datamodule.batch_size)  # type: ignore[attr-defined]
        return {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[self.scale_lr]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._rates:
            self.hold(trainer)
        if trainer.is_global_zero:
            print(self.line(trainer), flush=True)

    def hold(self, trainer: Trainer) -> None:
        """Scaled rates for those of a checkpoint, which another global batch may have had; schedules go on."""
        for schedule in (config.scheduler for config in trainer.lr_scheduler_configs):
            groups = schedule.optimizer.param_groups
            if any("initial_lr" not in group for group in groups):
                continue  # one that goes by a score, and has no peak
            for group, rates in zip(groups, self._rates, strict=True):
                before, peak = group["initial_lr"], rates["lr"]
                if before and before != peak:
                    group.update({**rates, "lr": group["lr"] * peak / before, "initial_lr": peak})
            schedule.base_lrs = [group["initial_lr"] for group in groups]

    def line(self, trainer: Trainer) -> str:
        """The plan in one line."""
        accumulate, world = trainer.accumulate_grad_batches, trainer.world_size
        per_rank = trainer.datamodule.batch_size  # type: ignore[attr-defined]
        batches = trainer.num_training_batches
        steps = math.ceil(batches / accumulate) if math.isfinite(batches) else batches
        rates = sorted(
            {group.get("initial_lr", group["lr"]) for opt in trainer.optimizers for group in opt.param_groups}
        )
        scaled = "" if self.scale_lr == "none" else f" (x{self.factor(trainer):g}, {self.scale_lr})"
        return (
            f"effective batch {global_batch(trainer)} = {per_rank} x {world} process{'es' if world > 1 else ''} "
            f"({trainer.num_nodes} node{'s' if trainer.num_nodes > 1 else ''}) x {accumulate} accumulated; "
            f"peak learning rate {', '.join(f'{rate:g}' for rate in rates)}{scaled}; "
            f"{steps} steps an epoch, {self.end(trainer)}; begins at step {trainer.global_step}"
        )

    def end(self, trainer: Trainer) -> str:
        """How long the run is."""
        total = trainer.estimated_stepping_batches
        limits = [one.minutes for one in trainer.callbacks if isinstance(one, TrainingClock)]  # type: ignore[attr-defined]
        ends = [f"{total} in all"] if 0 <= total < math.inf else []
        ends += [f"{timedelta(minutes=minutes)} of training in all" for minutes in limits if minutes is not None]
        return " or ".join(ends)


def global_batch(trainer: Trainer) -> int:
    """Samples behind one optimiser step, over all ranks."""
    return trainer.datamodule.batch_size * trainer.world_size * trainer.accumulate_grad_batches  # type: ignore[attr-defined]
