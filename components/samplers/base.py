"""The contract of a sampler.

A sampler is stateless and knows neither images nor text: it is handed a function that estimates the clean latent,
with guidance and parameterisation already inside, and can so be tested on a Gaussian whose answer is known.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ladic.errors import UsageError
from ladic.spec import Buildable
from ladic.types import DenoiseFn, DrawFn, ScheduleLike, StepFn


class Sampler(Buildable, ABC):
    """Walks from t = 1 down to 0 in ``num_steps`` evaluations of the denoiser.

    A subclass defines ``step``. Override ``sample`` only where the walk itself differs.

    Args:
        num_steps: evaluations of ``denoise`` (NFE before guidance doubles it).
    """

    def __init__(self, num_steps: int = 10) -> None:
        if num_steps < 1:
            raise UsageError(f"num_steps={num_steps}: a sampler needs at least one step")
        self.num_steps = num_steps

    def times(self) -> Tensor:
        """The times visited, (num_steps + 1,) from 1 to 0; the network is never asked about the last one."""
        return torch.linspace(1.0, 0.0, self.num_steps + 1)

    @abstractmethod
    def step(self, x_t: Tensor, x0: Tensor, t: Tensor, s: Tensor, schedule: ScheduleLike, draw: DrawFn) -> Tensor:
        """x at time s < t (both (B,)) from x_t and the estimate x0, all (B, L, D)."""

    def sample(
        self,
        denoise: DenoiseFn,
        x_t: Tensor,
        schedule: ScheduleLike,
        draw: DrawFn,
        on_step: StepFn | None = None,
    ) -> Tensor:
        """Estimate of the clean latent (B, L, D).

        Args:
            denoise: ``denoise(x_t, t (B,), x0_prev or None) -> x0``; its last estimate is fed back to it.
            x_t: standard normal noise (B, L, D) to start from.
            schedule: gives alpha_bar at every time.
            draw: fresh standard normal noise, (B, L, D) a call.
            on_step: called with (index, t, x0) after every evaluation.
        """
        x0: Tensor | None = None
        times = self.times().to(x_t.device)
        for index in range(self.num_steps):
            t = times[index].expand(len(x_t))
            x0 = denoise(x_t, t, x0)
            if on_step is not None:
                on_step(index, float(times[index]), x0)
            if index + 1 < self.num_steps:
                x_t = self.step(x_t, x0, t, times[index + 1].expand(len(x_t)), schedule, draw)
        assert x0 is not None
        return x0


def signal_and_noise(schedule: ScheduleLike, t: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(alpha_bar) and sqrt(1 - alpha_bar) at t (B,), each (B, 1, 1) to multiply latents with."""
    t = t.reshape(-1, 1, 1)
    return schedule.alpha_bar(t).sqrt(), schedule.sigma(t)
