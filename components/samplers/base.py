"""The contract of a sampler.

A sampler is stateless and knows neither images nor text: it is handed a function that estimates the clean latent,
with guidance and parameterisation already inside, and can so be tested on a Gaussian whose answer is known.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor

from ladic.components.samplers.spacing import Spacing, check_spacing, spaced_times
from ladic.errors import UsageError
from ladic.spec import Buildable
from ladic.types import ConfidenceFn, DenoiseFn, DrawFn, SamplingStep, ScheduleLike, StepFn


class Evaluations:
    """Asks a denoiser, feeds its last estimate back to it, and tells ``on_step`` of every evaluation.

    Attributes:
        x0: (B, L, D) the last estimate.
        count: evaluations so far.
    """

    def __init__(self, denoise: DenoiseFn, on_step: StepFn | None = None) -> None:
        self.denoise, self.on_step = denoise, on_step
        self.x0: Tensor | None = None
        self.count = 0
        self._t = 1.0

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Estimate (B, L, D) at one time t, a scalar tensor on the CPU."""
        self.x0 = self.denoise(x_t, at_rows(t, x_t), self.x0)
        self.count, self._t = self.count + 1, float(t)
        self.tell()
        return self.x0

    def tell(self, kept: Tensor | None = None) -> None:
        """Reports the last evaluation, with what Back&Refine kept after it."""
        if self.on_step is not None:
            assert self.x0 is not None
            self.on_step(SamplingStep(self.count - 1, self._t, self.x0, kept))


class Sampler(Buildable, ABC):
    """Walks from t = 1 down to 0 in ``num_steps`` steps.

    A subclass defines ``step``. Override ``walk`` where more than one estimate goes into a step.

    Args:
        num_steps: steps; each takes one evaluation of ``denoise`` (before guidance doubles it) unless the subclass
            says otherwise.
        spacing: of the times: "uniform", "quadratic" or "log_snr", see ``ladic.components.samplers.spacing``.
    """

    def __init__(self, num_steps: int = 10, spacing: Spacing = "uniform") -> None:
        if num_steps < 1:
            raise UsageError(f"num_steps={num_steps}: a sampler needs at least one step")
        check_spacing(spacing)
        self.num_steps = num_steps
        self.spacing: Spacing = spacing

    def times(self, schedule: ScheduleLike) -> Tensor:
        """The times visited, (num_steps + 1,) from 1 to 0; the network is never asked about the last one."""
        return spaced_times(self.num_steps, self.spacing, schedule)

    def with_steps(self, num_steps: int) -> Self:
        """The same sampler with another number of steps."""
        return type(self)(**{**self.__dict__["_init_args"], "num_steps": num_steps})

    @abstractmethod
    def step(self, x_t: Tensor, x0: Tensor, t: Tensor, s: Tensor, schedule: ScheduleLike, draw: DrawFn) -> Tensor:
        """x at time 0 < s < t (both (B,)) from x_t and the estimate x0, all (B, L, D)."""

    def walk(self, ask: Evaluations, x_t: Tensor, times: Tensor, schedule: ScheduleLike, draw: DrawFn) -> Tensor:
        """x at the last of ``times`` from x_t at the first (B, L, D); at time 0 that is the last estimate itself.

        Args:
            ask: the denoiser; keeps the last estimate from one walk to the next.
            x_t: (B, L, D).
            times: falling, two at least, on the CPU, so that asking about them doesn't wait for a GPU.
            schedule: as in ``sample``.
            draw: likewise.
        """
        for t, s in itertools.pairwise(times):
            x0 = ask(x_t, t)
            x_t = self.step(x_t, x0, at_rows(t, x_t), at_rows(s, x_t), schedule, draw) if s > 0 else x0
        return x_t

    def sample(
        self,
        denoise: DenoiseFn,
        x_t: Tensor,
        schedule: ScheduleLike,
        draw: DrawFn,
        on_step: StepFn | None = None,
        confidence: ConfidenceFn | None = None,
    ) -> Tensor:
        """Estimate of the clean latent (B, L, D).

        Args:
            denoise: ``denoise(x_t, t (B,), x0_prev or None) -> x0``; its last estimate is fed back to it.
            x_t: standard normal noise (B, L, D) to start from.
            schedule: gives alpha_bar at every time.
            draw: fresh standard normal noise, (B, L, D) a call.
            on_step: told of every evaluation.
            confidence: how sure each position of an estimate is; for samplers that decide by it.
        """
        return self.walk(Evaluations(denoise, on_step), x_t, self.times(schedule), schedule, draw)


def at_rows(t: Tensor, x_t: Tensor) -> Tensor:
    """(B,) of one time (a scalar on the CPU), on the device of x_t (B, L, D)."""
    return torch.full((len(x_t),), float(t), dtype=t.dtype, device=x_t.device)


def signal_and_noise(schedule: ScheduleLike, t: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(alpha_bar) and sqrt(1 - alpha_bar) at t (B,), each (B, 1, 1) to multiply latents with."""
    t = t.reshape(-1, 1, 1)
    return schedule.alpha_bar(t).sqrt(), schedule.sigma(t)


def added_variance(schedule: ScheduleLike, t: Tensor, s: Tensor) -> Tensor:
    """Variance (B, 1, 1) of the noise that the process adds between s and t, s < t: sigma_t^2 - a_t / a_s sigma_s^2.

    With sigma^2 = 1 - a that is DDPM's 1 - a_t / a_s; a schedule that stretches its noise has more of it.
    """
    signal_t, noise_t = signal_and_noise(schedule, t)
    signal_s, noise_s = signal_and_noise(schedule, s)
    return (noise_t.square() - (signal_t / signal_s * noise_s).square()).clamp_min(0)
