"""DPM-Solver++ (Lu et al. 2022b, "DPM-Solver++", Algorithm 2): two-step multistep in data prediction."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from ladic.components.samplers.base import Evaluations, Sampler, at_rows, signal_and_noise
from ladic.components.samplers.ddim import deterministic_step
from ladic.types import DrawFn, ScheduleLike


class DPMSolverSampler(Sampler):
    """DPM-Solver++(2M): second order at one evaluation a step, from the estimates of this step and the one before.

    x_s = (sigma_s / sigma_t) x_t - signal_s (exp(-h) - 1) D,    D = (1 + 1 / 2r) x0 - (1 / 2r) x0_before

    The first step has no predecessor and is DDIM's, and so is the last, to t = 0, where h is infinite.

    | symbol | here |
    | lambda | half the log SNR |
    | h | lambda(s) - lambda(t) |
    | r | h of the step before over h |

    Args:
        num_steps: evaluations.
        spacing: of the times: "uniform", "quadratic" or "log_snr" (the paper's choice).
    """

    def step(self, x_t: Tensor, x0: Tensor, t: Tensor, s: Tensor, schedule: ScheduleLike, draw: DrawFn) -> Tensor:
        return deterministic_step(x_t, x0, t, s, schedule)

    def walk(self, ask: Evaluations, x_t: Tensor, times: Tensor, schedule: ScheduleLike, draw: DrawFn) -> Tensor:
        before: Tensor | None = None
        h_before: Tensor | None = None
        for t, s in itertools.pairwise(times):
            x0 = ask(x_t, t)
            if s == 0:
                return x0
            rows = (at_rows(t, x_t), at_rows(s, x_t))
            h = half_log_snr(schedule, rows[1]) - half_log_snr(schedule, rows[0])
            direction = x0
            if before is not None and h_before is not None:
                share = 0.5 * h / h_before.clamp_min(1e-6)
                direction = (1 + share) * x0 - share * before
            x_t = deterministic_step(x_t, direction, *rows, schedule)
            before, h_before = x0, h
        return x_t


def half_log_snr(schedule: ScheduleLike, t: Tensor) -> Tensor:
    """lambda = log(signal / sigma) at t (B,), (B, 1, 1), kept finite."""
    signal, noise = signal_and_noise(schedule, t)
    return torch.log(signal.clamp_min(1e-8)) - torch.log(noise.clamp_min(1e-8))
