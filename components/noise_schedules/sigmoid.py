"""Sigmoid schedule (Jabri et al. 2022, "Scalable Adaptive Computation for Iterative Generation", appendix)."""

from __future__ import annotations

import torch
from torch import Tensor

from ladic.components.noise_schedules.base import NoiseSchedule
from ladic.errors import UsageError


class SigmoidSchedule(NoiseSchedule):
    """A piece of the logistic curve between ``start`` and ``end``, stretched to run from 1 to 0.

    alpha_bar(t) = (g(end) - g(start + t (end - start))) / (g(end) - g(start)),    g(u) = sigmoid(u / tau)

    Args:
        start: where the piece begins.
        end: where it ends.
        tau: temperature; a smaller one is steeper in the middle.
        floor: least alpha_bar; keeps log_snr finite at t = 1.

    Example:
        >>> SigmoidSchedule().alpha_bar(torch.tensor([0.0, 0.5])).tolist()
        [1.0, 0.5...]
    """

    def __init__(self, start: float = -3.0, end: float = 3.0, tau: float = 1.0, floor: float = 1e-5) -> None:
        if not start < end or not tau > 0 or not 0 <= floor < 1:
            raise UsageError(
                f"start={start}, end={end}, tau={tau}, floor={floor}: need start < end, tau > 0 and 0 <= floor < 1"
            )
        self.start, self.end, self.tau, self.floor = start, end, tau, floor

    def alpha_bar(self, t: Tensor) -> Tensor:
        t = self.full_precision(t)

        def g(u: Tensor | float) -> Tensor:
            return torch.sigmoid(torch.as_tensor(u, dtype=t.dtype, device=t.device) / self.tau)

        high = g(self.end)
        return ((high - g(self.start + t * (self.end - self.start))) / (high - g(self.start))).clamp(self.floor, 1.0)
