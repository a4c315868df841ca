"""Cosine schedule (Nichol & Dhariwal 2021, eq. 17), the paper's choice (Table 7)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ladic.components.noise_schedules.base import NoiseSchedule
from ladic.errors import UsageError


class CosineSchedule(NoiseSchedule):
    """Signal falls along a squared cosine: alpha_bar(t) = f(t) / f(0) with f(t) = cos(pi/2 (t + s) / (1 + s))^2.

    Args:
        s: offset that keeps the first steps from being noiseless.
        floor: least alpha_bar; keeps log_snr finite at t = 1.

    Example:
        >>> CosineSchedule().alpha_bar(torch.tensor([0.0, 0.5])).tolist()
        [1.0, 0.493...]
    """

    def __init__(self, s: float = 0.008, floor: float = 1e-5) -> None:
        if s < 0 or not 0 <= floor < 1:
            raise UsageError(f"s={s}, floor={floor}: need s >= 0 and 0 <= floor < 1")
        self.s, self.floor = s, floor

    def alpha_bar(self, t: Tensor) -> Tensor:
        def f(time: Tensor | float) -> Tensor:
            angle = math.pi / 2 * (torch.as_tensor(time) + self.s) / (1 + self.s)
            return torch.cos(angle).square()

        return (f(self.full_precision(t)) / f(0.0).to(t.device)).clamp(self.floor, 1.0)
