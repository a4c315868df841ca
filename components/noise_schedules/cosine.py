"""Cosine schedule (Nichol & Dhariwal 2021, eq. 17), the paper's choice (Table 7)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ladic.components.noise_schedules.base import NoiseSchedule
from ladic.errors import UsageError


class CosineSchedule(NoiseSchedule):
    """Signal falls along a squared cosine: alpha_bar(t) = f(t) / f(0) with f(t) = cos(pi/2 (t + s) / (1 + s))^2.

    Discrete, as in the released code with ``--cosin_schedule``: t picks k = round(t (n - 1)), and the entry is
    f(k / n) / f(0), so that the last one, f((n - 1) / n), keeps a trace of signal.

    Args:
        num_steps: entries of the table (Table 7: 1000), or None for the continuous form.
        s: offset that keeps the first steps from being noiseless.
        floor: least alpha_bar; keeps log_snr finite at t = 1. The released table has none (0).

    Example:
        >>> CosineSchedule().alpha_bar(torch.tensor([0.0, 0.5])).tolist()
        [1.0, 0.493...]
    """

    def __init__(self, s: float = 0.008, floor: float = 1e-5, num_steps: int | None = None) -> None:
        if s < 0 or not 0 <= floor < 1:
            raise UsageError(f"s={s}, floor={floor}: need s >= 0 and 0 <= floor < 1")
        if num_steps is not None and num_steps < 2:
            raise UsageError(f"num_steps={num_steps}: a table needs at least 2 entries; None means continuous time")
        self.s, self.floor, self.num_steps = s, floor, num_steps
        self._table: Tensor | None = None
        if num_steps is not None:
            times = torch.arange(num_steps, dtype=torch.float64) / num_steps
            self._table = self._share(times).float()

    @property
    def entries(self) -> int | None:
        return self.num_steps

    def alpha_bar(self, t: Tensor) -> Tensor:
        t = self.full_precision(t)
        if self._table is not None:
            self._table = self._table.to(t.device)  # stays there
            return self._table[(t.clamp(0, 1) * (len(self._table) - 1)).round().long()]
        return self._share(t)

    def _share(self, t: Tensor) -> Tensor:
        """f(t) / f(0) for real times."""

        def f(time: Tensor) -> Tensor:
            return torch.cos(math.pi / 2 * (time + self.s) / (1 + self.s)).square()

        return (f(t) / f(torch.zeros((), dtype=t.dtype, device=t.device))).clamp(self.floor, 1.0)
