"""The sigmoid schedule (Jabri et al. 2022, "Scalable Adaptive Computation for Iterative Generation")."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ladic.components import NoiseSchedule
from ladic.errors import UsageError


class LogisticSchedule(NoiseSchedule):
    """alpha_bar(t) falls along a piece of a sigmoid, scaled to begin at 1 and end at 0.

        v(t) = sigmoid((start + t (end - start)) / tau),    alpha_bar(t) = (v(1) - v(t)) / (v(1) - v(0))

    Args:
        start: left end of the piece.
        end: right end.
        tau: temperature; a small one is steep in the middle.

    Example:
        >>> LogisticSchedule().alpha_bar(torch.tensor([0.0, 0.5, 1.0])).tolist()
        [1.0, 0.5, 0.0]
    """

    def __init__(self, start: float = -3.0, end: float = 3.0, tau: float = 1.0) -> None:
        if start >= end or tau <= 0:
            raise UsageError(f"start={start}, end={end}, tau={tau}: need start < end and tau > 0")
        self.start, self.end, self.tau = start, end, tau

    def alpha_bar(self, t: Tensor) -> Tensor:
        t = self.full_precision(t)
        first, last = (1 / (1 + math.exp(-x / self.tau)) for x in (self.start, self.end))
        here = torch.sigmoid((self.start + t * (self.end - self.start)) / self.tau)
        return ((last - here) / (last - first)).clamp(0, 1)
