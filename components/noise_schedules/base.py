"""The contract of a noise schedule.

A variance-preserving process (DDPM, Ho et al. 2020; continuous form in VDM, Kingma et al. 2021)::

    x_t = sqrt(alpha_bar(t)) x0 + sqrt(1 - alpha_bar(t)) eps,     eps ~ N(0, I),     t in [0, 1]

| here          | paper (LaDiC §3.3)        |
| alpha_bar(t)  | \\bar alpha_t             |
| log_snr(t)    | log(\\bar alpha_t / (1 - \\bar alpha_t)) |
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ladic.spec import Buildable


class NoiseSchedule(Buildable, ABC):
    """Maps time t in [0, 1] (0 clean, 1 noise) to the share of signal left.

    A subclass defines ``alpha_bar``; everything else follows from it. Schedules have no parameters and answer on
    the device and in the shape of the ``t`` they are given, in float32 at least.
    """

    @property
    def entries(self) -> int | None:
        """Length of the table that the schedule is; None, the default, where time is continuous."""
        return None

    @abstractmethod
    def alpha_bar(self, t: Tensor) -> Tensor:
        """Signal share in [0, 1] for t of any shape: same shape, falling in t, near 1 at 0 and near 0 at 1."""

    def training_times(self, draws: Tensor) -> Tensor:
        """Times that training visits, from uniform draws in [0, 1) of any shape.

        Where the schedule is a table of n entries, they are its own n times k / (n - 1), all with the same probability.
        """
        if self.entries is None:
            return draws
        return (draws * self.entries).floor().clamp_max(self.entries - 1) / (self.entries - 1)

    @staticmethod
    def full_precision(t: Tensor) -> Tensor:
        """t in float32, or in float64 where it comes so: in half precision neighbouring steps would coincide."""
        return t if t.dtype == torch.float64 else t.float()

    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise, sqrt(1 - alpha_bar)."""
        return (1 - self.alpha_bar(t)).clamp_min(0).sqrt()

    def log_snr(self, t: Tensor) -> Tensor:
        """log(alpha_bar / (1 - alpha_bar)), infinite where there is no noise."""
        alpha_bar = self.alpha_bar(t)
        return torch.log(alpha_bar) - torch.log1p(-alpha_bar)

    def training_log_snr(self, t: Tensor) -> Tensor:
        """Of ``add_training_noise``."""
        return self.log_snr(t)

    def add_noise(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Noisy latent x_t (B, L, D) from x0 (B, L, D), one time per sample t (B,), and noise like x0."""
        t = t.reshape(-1, 1, 1)
        return (self.alpha_bar(t).sqrt() * x0 + self.sigma(t) * noise).to(x0.dtype)

    def add_training_noise(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """As ``add_noise``; schedules whose noise in training differs from that in sampling override it."""
        return self.add_noise(x0, t, noise)
