"""A schedule moved along the log-SNR axis: the noise factor of Gao et al. 2022 in variance-preserving form."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ladic.components.noise_schedules.base import NoiseSchedule
from ladic.components.noise_schedules.cosine import CosineSchedule
from ladic.errors import UsageError


class ShiftedSchedule(NoiseSchedule):
    """Divides the signal-to-noise ratio of ``schedule`` by ``factor`` squared at every t.

    Multiplying the noise by F and rescaling to unit variance is the same process as a shift of log SNR by
    -2 log F (simple diffusion, Hoogeboom et al. 2023, eq. 4)::

        alpha_bar' = alpha_bar / (alpha_bar + F^2 (1 - alpha_bar))

    Text latents are easy to read through a little noise, so a harder schedule (F > 1) puts more of the training
    where words are still undecided.

    Args:
        schedule: the schedule to shift.
        factor: F; 1 changes nothing.

    Example:
        >>> ShiftedSchedule(CosineSchedule(), factor=2.0).log_snr(torch.tensor([0.5])).item()
        -1.41...
    """

    def __init__(self, schedule: NoiseSchedule | None = None, factor: float = 2.0) -> None:
        if not factor > 0:
            raise UsageError(f"factor={factor}: the noise factor must be positive")
        self.schedule = schedule if schedule is not None else CosineSchedule()
        self.factor = factor

    @property
    def entries(self) -> int | None:
        return self.schedule.entries

    def alpha_bar(self, t: Tensor) -> Tensor:
        alpha_bar = self.schedule.alpha_bar(t)
        return alpha_bar / (alpha_bar + self.factor**2 * (1 - alpha_bar))

    def log_snr(self, t: Tensor) -> Tensor:
        return self.schedule.log_snr(t) - 2 * torch.as_tensor(math.log(self.factor), device=t.device)
