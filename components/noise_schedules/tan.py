"""The tan-d schedule of TEncDM (Shabalin et al. 2024), made for text latents."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ladic.components.noise_schedules.base import NoiseSchedule
from ladic.errors import UsageError


class TanSchedule(NoiseSchedule):
    """alpha_bar(t) = 1 / (1 + d^2 tan(pi t / 2)^2): the larger d, the more noise at every t.

    With d = 1 it is the cosine without offset; d is the noise factor F of ``ShiftedSchedule`` on it, for
    log SNR = -2 log tan(pi t / 2) - 2 log d.

    Args:
        d: 9 in the paper.
        floor: least alpha_bar; keeps log_snr finite at t = 1.

    Example:
        >>> TanSchedule(d=3).alpha_bar(torch.tensor([0.0, 0.5])).tolist()
        [1.0, 0.1...]
    """

    def __init__(self, d: float = 9.0, floor: float = 1e-5) -> None:
        if not d > 0 or not 0 <= floor < 1:
            raise UsageError(f"d={d}, floor={floor}: need d > 0 and 0 <= floor < 1")
        self.d, self.floor = d, floor

    def alpha_bar(self, t: Tensor) -> Tensor:
        tangent = torch.tan(math.pi / 2 * self.full_precision(t).clamp(0, 1))
        return (1 / (1 + (self.d * tangent).square())).clamp(self.floor, 1.0)
