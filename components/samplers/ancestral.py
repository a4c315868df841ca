"""Ancestral sampling: DDPM's own reverse chain (Ho et al. 2020)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from ladic.components.samplers.base import Sampler, added_variance, signal_and_noise
from ladic.components.samplers.spacing import Spacing
from ladic.errors import UsageError
from ladic.types import DrawFn, ScheduleLike

Variance = Literal["small", "large"]


class AncestralSampler(Sampler):
    """Draws x_s from the posterior q(x_s | x_t, x0) (DDPM, eq. 6 and 7).

    mean = sqrt(a_s) beta / (1 - a_t) x0 + sqrt(r) (1 - a_s) / (1 - a_t) x_t,     r = a_t / a_s

    | symbol | here |
    | a_t, a_s | alpha_bar at the current and the next time |
    | beta | 1 - r, ``added_variance`` |

    1 - a stands for the variance of the noise, which ``DilatedSchedule`` has stretched.

    Args:
        num_steps: evaluations.
        variance: "small", the posterior's own (1 - a_s) / (1 - a_t) (1 - r), which makes it DDIM with eta = 1; or
            "large", 1 - r, DDPM's other choice (§3.2), right where the data are themselves standard normal.
        spacing: of the times: "uniform", "quadratic" or "log_snr".
    """

    def __init__(self, num_steps: int = 10, variance: Variance = "small", spacing: Spacing = "uniform") -> None:
        super().__init__(num_steps, spacing)
        if variance not in get_args(Variance):
            raise UsageError(f"variance='{variance}': accepted are {', '.join(get_args(Variance))}")
        self.variance: Variance = variance

    def step(self, x_t: Tensor, x0: Tensor, t: Tensor, s: Tensor, schedule: ScheduleLike, draw: DrawFn) -> Tensor:
        signal_t, noise_t = signal_and_noise(schedule, t)
        signal_s, noise_s = signal_and_noise(schedule, s)
        beta, left = added_variance(schedule, t, s), noise_t.square().clamp_min(1e-12)
        mean = signal_s * beta / left * x0 + signal_t / signal_s * noise_s.square() / left * x_t
        mean = torch.where(noise_t > 0, mean, signal_s * x0)  # two times of a table's clean entry
        variance = beta if self.variance == "large" else beta * noise_s.square() / left
        return mean + variance.sqrt() * draw()
