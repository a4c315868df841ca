"""Heun's method on the probability-flow ODE (Karras et al. 2022, Algorithm 1)."""

from __future__ import annotations

import itertools

from torch import Tensor

from ladic.components.samplers.base import Evaluations, Sampler, at_rows, signal_and_noise
from ladic.components.samplers.ddim import deterministic_step
from ladic.types import DrawFn, ScheduleLike


class HeunSampler(Sampler):
    """A DDIM step to the next time, an evaluation there, and the step again with the mean of both slopes.

    In y = x / signal and rho = sigma / signal the flow is dy / d rho = (y - x0) / rho, Karras' form, whatever the
    schedule. Second order; the step to t = 0 has no slope at its end and stays DDIM's.

    Args:
        num_steps: steps, of two evaluations each but the last: 2 num_steps - 1 in all.
        spacing: of the times: "uniform", "quadratic" or "log_snr".
    """

    def step(self, x_t: Tensor, x0: Tensor, t: Tensor, s: Tensor, schedule: ScheduleLike, draw: DrawFn) -> Tensor:
        return deterministic_step(x_t, x0, t, s, schedule)

    def walk(self, ask: Evaluations, x_t: Tensor, times: Tensor, schedule: ScheduleLike, draw: DrawFn) -> Tensor:
        for t, s in itertools.pairwise(times):
            x0 = ask(x_t, t)
            if s == 0:
                return x0
            rows = (at_rows(t, x_t), at_rows(s, x_t))
            x_s = self.step(x_t, x0, *rows, schedule, draw)
            if schedule.sigma(s) == 0:  # an entry of a table with no noise has no slope
                x_t = x_s
                continue
            signal_t, noise_t = (value.clamp_min(1e-8) for value in signal_and_noise(schedule, rows[0]))
            signal_s, noise_s = (value.clamp_min(1e-8) for value in signal_and_noise(schedule, rows[1]))
            rho_t, rho_s = noise_t / signal_t, noise_s / signal_s
            slopes = (x_t / signal_t - x0) / rho_t + (x_s / signal_s - ask(x_s, s)) / rho_s
            x_t = signal_s * (x_t / signal_t + 0.5 * (rho_s - rho_t) * slopes)
        return x_t
