"""Noise stretched by a factor, in training and in sampling apart: what the released LaDiC code does."""

from __future__ import annotations

import math

from torch import Tensor

from ladic.components.noise_schedules.base import NoiseSchedule
from ladic.components.noise_schedules.cosine import CosineSchedule
from ladic.errors import UsageError


class DilatedSchedule(NoiseSchedule):
    """x_t = sqrt(alpha_bar) x0 + F sqrt(1 - alpha_bar) eps, with a factor F for training and one for sampling.

    The paper names a noise factor (§4.1, after Gao et al. 2022) without its value; the released code has 4 in training
    and 1 in sampling, so that the network is told t for noise four times as large as what it meets in sampling at that
    t. Unlike ``ShiftedSchedule``, the noisy latent keeps no unit variance, and the first x_t in sampling, standard
    normal, is not stretched.

    Args:
        schedule: gives alpha_bar; cosine if not given.
        training: F in training.
        sampling: F in samplers.

    Example:
        >>> import torch
        >>> schedule = DilatedSchedule(CosineSchedule(), training=4.0)
        >>> zeros, ones, t = torch.zeros(1, 1, 1), torch.ones(1, 1, 1), torch.tensor([0.5])
        >>> schedule.add_training_noise(zeros, t, ones).item() / schedule.add_noise(zeros, t, ones).item()
        4.0
    """

    def __init__(self, schedule: NoiseSchedule | None = None, training: float = 4.0, sampling: float = 1.0) -> None:
        if not (training > 0 and sampling > 0):
            raise UsageError(f"training={training}, sampling={sampling}: noise factors must be positive")
        self.schedule = schedule if schedule is not None else CosineSchedule()
        self.training, self.sampling = training, sampling

    @property
    def entries(self) -> int | None:
        return self.schedule.entries

    def alpha_bar(self, t: Tensor) -> Tensor:
        return self.schedule.alpha_bar(t)

    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise in sampling."""
        return self.sampling * self.schedule.sigma(t)

    def log_snr(self, t: Tensor) -> Tensor:
        """log(signal / noise) power in sampling."""
        return self.schedule.log_snr(t) - 2 * math.log(self.sampling)

    def training_log_snr(self, t: Tensor) -> Tensor:
        """log(signal / noise) power in training."""
        return self.schedule.log_snr(t) - 2 * math.log(self.training)

    def add_training_noise(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        t = t.reshape(-1, 1, 1)
        signal, spread = self.schedule.alpha_bar(t).sqrt(), self.training * self.schedule.sigma(t)
        return (signal * x0 + spread * noise).to(x0.dtype)
