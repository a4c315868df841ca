"""DDIM with asymmetric time intervals (Chen et al. 2022, "Analog Bits", section 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from ladic.components import Sampler
from ladic.components.samplers.base import signal_and_noise
from ladic.errors import UsageError
from ladic.types import DrawFn, ScheduleLike


class AsymmetricSampler(Sampler):
    """Goes further down in noise than the time it tells the network next.

    A deterministic DDIM step that ends at max(s - difference, 0) instead of s. The network is then asked at s, a
    noisier time than the latent's own, which makes up for estimates that are too sure with few steps.

    Args:
        num_steps: evaluations of the network.
        time_difference: in steps, 0 or more; 0 is plain DDIM.
    """

    def __init__(self, num_steps: int = 10, time_difference: float = 1.0) -> None:
        super().__init__(num_steps)
        if time_difference < 0:
            raise UsageError(f"time_difference={time_difference}: need 0 or more")
        self.time_difference = time_difference

    def step(self, x_t: Tensor, x0: Tensor, t: Tensor, s: Tensor, schedule: ScheduleLike, draw: DrawFn) -> Tensor:
        signal, noise = signal_and_noise(schedule, t)
        direction = (x_t - signal * x0) / noise
        further = torch.clamp(s - self.time_difference / self.num_steps, min=0)
        signal, noise = signal_and_noise(schedule, further)
        return signal * x0 + noise * direction
