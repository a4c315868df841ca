"""Linear beta schedule (DDPM, Ho et al. 2020), continuous or as the discrete table of the released LaDiC code."""

from __future__ import annotations

import torch
from torch import Tensor

from ladic.components.noise_schedules.base import NoiseSchedule
from ladic.errors import UsageError


class LinearSchedule(NoiseSchedule):
    """Beta rises linearly from ``beta_min`` to ``beta_max`` over 1000 steps.

    Continuous (``num_steps=None``): the limit of DDPM's chain, with the rates b = 1000 beta (Song et al. 2021,
    VP-SDE, eq. 33)::

        log alpha_bar(t) = -(b_min t + (b_max - b_min) t^2 / 2)

    Discrete: t picks entry round(t (n - 1)) of cumprod(1 - beta) for the n betas 0, linspace(beta_min, beta_max, n)
    without the last one. The leading zero makes t = 0 exactly clean. Betas of n entries are 1000 / n times as large, so
    that a coarse table ends in noise too.

    Args:
        num_steps: entries of the table, or None for the continuous form.
        beta_min: first beta of 1000 (Table 7 of the paper: 0.0001).
        beta_max: last beta of 1000 (Table 7: 0.02).

    Example:
        >>> LinearSchedule(num_steps=1000).alpha_bar(torch.tensor([0.0, 1.0])).tolist()
        [1.0, 4.118...e-05]
    """

    def __init__(self, num_steps: int | None = None, beta_min: float = 1e-4, beta_max: float = 0.02) -> None:
        if num_steps is not None and num_steps < 2:
            raise UsageError(f"num_steps={num_steps}: a table needs at least 2 entries; None means continuous time")
        if not 0 < beta_min < beta_max < 1:
            raise UsageError(f"beta_min={beta_min}, beta_max={beta_max}: need 0 < beta_min < beta_max < 1")
        self.num_steps, self.beta_min, self.beta_max = num_steps, beta_min, beta_max
        self._table: Tensor | None = None
        if num_steps is not None:
            betas = torch.cat([torch.zeros(1, dtype=torch.float64, device="cpu"), self._betas(num_steps)[:-1]])
            self._table = torch.cumprod(1 - betas, 0).float()

    @property
    def entries(self) -> int | None:
        return self.num_steps

    def _betas(self, num_steps: int) -> Tensor:
        betas = torch.linspace(self.beta_min, self.beta_max, num_steps, dtype=torch.float64, device="cpu")
        return (betas * (1000 / num_steps)).clamp_max(0.999)

    def alpha_bar(self, t: Tensor) -> Tensor:
        t = self.full_precision(t)
        if self._table is not None:
            self._table = self._table.to(t.device)  # stays there
            return self._table[(t.clamp(0, 1) * (len(self._table) - 1)).round().long()]
        low, high = 1000 * self.beta_min, 1000 * self.beta_max
        return torch.exp(-(low * t + (high - low) * t.square() / 2))
