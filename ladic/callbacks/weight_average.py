"""An exponential moving average of the weights that are trained, for validation, checkpoints and the end of a run."""

from __future__ import annotations

from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch.optim.swa_utils import AveragedModel

from ladic.errors import UsageError


class WeightAverage(WeightAveraging):
    """average = decay * average + (1 - decay) * weights, after every step (Polyak & Juditsky 1992).

    Lightning's ``EMAWeightAveraging``, which this can stand for, averages frozen weights too, one tensor after the
    other: with a text model beside a small denoiser, a sixth of the time of a step on a CPU. Buffers are copied. As
    there the average begins with the first step's weights, not with those before a student took its teacher's.

    Args:
        decay: from 0 to below 1; it looks back about 1 / (1 - decay) steps.

    Raises:
        UsageError: for another number.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise UsageError(f"WeightAverage.decay={decay}: need 0 <= decay < 1")
        super().__init__()
        self.decay = decay

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self._average_model = _Average(pl_module, self.decay)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._average_model is not None:  # else the average alone is wanted, which the weights in the file are
            super().on_load_checkpoint(trainer, pl_module, checkpoint)


class _Average(AveragedModel):
    """A copy of a model whose trained weights follow slowly."""

    def __init__(self, model: LightningModule, decay: float) -> None:
        super().__init__(model, device=model.device)
        self.decay = decay
        self._begun = False

    @torch.no_grad()
    def update_parameters(self, model: Any) -> None:
        both = zip(self.module.parameters(), model.parameters(), strict=True)
        averages, weights = zip(*(pair for pair in both if pair[1].requires_grad), strict=True)
        first, self._begun = not self._begun and int(self.n_averaged) == 0, True  # asks a GPU once
        torch._foreach_lerp_(averages, weights, 1.0 if first else 1 - self.decay)
        torch._foreach_copy_(list(self.module.buffers()), list(model.buffers()))
        self.n_averaged += 1
