"""Learning-rate schedules that know how long the run is, and which parameters decay."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from ladic.errors import UsageError


@dataclass(frozen=True)
class WarmupDecay:
    """Linear warm-up to the optimiser's learning rate, then decay over the rest of the run.

    A run ends after so many steps, or after so much time (``trainer.max_time``), whatever comes first; where it is on
    its way is told by the one that is nearer to its end.

    Args:
        warmup: share of the run (Table 7: 0.1).
        shape: "linear" (the paper), "cosine" or "constant".
        floor: share of the peak that is left at the end.
        from_zero: start at a learning rate of 0, so that the first step changes nothing, as transformers' linear
            schedule (released code) does; otherwise at 1 / (warm-up steps + 1) of the peak.
    """

    warmup: float = 0.1
    shape: Literal["linear", "cosine", "constant"] = "linear"
    floor: float = 0.0
    from_zero: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1 or not 0 <= self.floor <= 1:
            raise UsageError(
                f"lr_schedule warmup={self.warmup}, floor={self.floor}: need 0 <= warmup < 1, 0 <= floor <= 1"
            )

    def __call__(
        self,
        optimizer: torch.optim.Optimizer,
        total_steps: float,
        time_spent: Callable[[], float] | None = None,
    ) -> LambdaLR:
        """The schedule of a run.

        Args:
            optimizer: whose learning rates it moves.
            total_steps: optimiser steps of the run; infinite, or Lightning's -1, where only time ends it.
            time_spent: says which share of the run's time has passed, the same on all ranks; None without a limit.

        Raises:
            UsageError: if nothing ends the run.
        """
        steps = math.inf if total_steps < 0 else total_steps
        if math.isinf(steps) and time_spent is None:
            raise UsageError(
                "lr_schedule: warm-up and decay are shares of a run, and this one has no end; give trainer.max_steps, "
                "trainer.max_epochs or trainer.max_time"
            )
        return LambdaLR(optimizer, lambda step: self.factor(step, steps, time_spent() if time_spent else 0.0))

    def factor(self, step: int, total_steps: float, time_spent: float = 0.0) -> float:
        """Share of the peak learning rate at a step.

        By time it rises from 0: how many steps the warm-up has, nobody knows.

        Example:
            >>> schedule = WarmupDecay(warmup=0.2)
            >>> schedule.factor(60, 100), schedule.factor(60, math.inf, 0.6)
            (0.5, 0.5)
            >>> schedule.factor(10, 100, time_spent=0.6)
            0.5
        """
        if math.isinf(total_steps) or time_spent > step / max(1, total_steps):
            if time_spent < self.warmup:
                return time_spent / self.warmup
            return self._decayed((time_spent - self.warmup) / (1 - self.warmup))
        warm = round(self.warmup * total_steps)
        if step < warm:
            return step / warm if self.from_zero else (step + 1) / (warm + 1)
        return self._decayed((step - warm) / max(1, total_steps - warm))

    def _decayed(self, progress: float) -> float:
        """The factor after a share of what follows the warm-up."""
        progress = min(1.0, progress)
        if self.shape == "linear":
            left = 1 - progress
        elif self.shape == "cosine":
            left = 0.5 * (1 + math.cos(math.pi * progress))
        else:
            left = 1.0
        return self.floor + (1 - self.floor) * left


class SharedOptimizer:
    """Makes an optimiser; copies of a model share it.

    What the command line gives for one holds on to the whole run, trainer included. A copy of the model, as averaging
    of weights makes, would copy all that too, and fail where the trainer has started other ranks.

    Args:
        make: takes parameter groups.
    """

    def __init__(self, make: Callable[..., torch.optim.Optimizer]) -> None:
        self.make = make

    def __call__(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return self.make(groups)

    def __deepcopy__(self, memo: dict[int, Any]) -> SharedOptimizer:
        return self


Decay = Literal["matrices", "all"]


def parameter_groups(module: nn.Module, decay: Decay = "matrices") -> list[dict[str, Any]]:
    """Trainable parameters in three groups.

    1. Weights of the linear layers inside the network, marked ``hidden``: what Muon is for. A layer that scores a
       vocabulary is none of them.
    2. All other matrices: embeddings, convolutions, the head.
    3. Vectors (biases, norms), which don't decay, unless ``decay`` is "all" (the released code).
    """
    heads = [head for part in module.modules() if isinstance(head := getattr(part, "head", None), nn.Module)]
    scoring = {id(parameter) for head in heads for parameter in head.parameters()}
    linear = {id(part.weight) for part in module.modules() if isinstance(part, nn.Linear)} - scoring
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    hidden = [parameter for parameter in trained if id(parameter) in linear]
    matrices = [parameter for parameter in trained if id(parameter) not in linear and parameter.dim() > 1]
    vectors = [parameter for parameter in trained if id(parameter) not in linear and parameter.dim() <= 1]
    groups: list[dict[str, Any]] = [
        {"params": hidden, "hidden": True},
        {"params": matrices},
        {"params": vectors} if decay == "all" else {"params": vectors, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
