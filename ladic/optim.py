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

    Args:
        warmup: share of the steps (Table 7: 0.1).
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

    def __call__(self, optimizer: torch.optim.Optimizer, total_steps: int) -> LambdaLR:
        """The schedule for a run of ``total_steps`` optimiser steps."""
        return LambdaLR(optimizer, lambda step: self.factor(step, total_steps))

    def factor(self, step: int, total_steps: int) -> float:
        """Share of the peak learning rate at a step."""
        warm = round(self.warmup * total_steps)
        if step < warm:
            return step / warm if self.from_zero else (step + 1) / (warm + 1)
        progress = min(1.0, (step - warm) / max(1, total_steps - warm))
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
