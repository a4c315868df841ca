"""Re-noising: what the released LaDiC code does between two evaluations instead of a DDIM step."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from ladic.components.samplers.base import Sampler
from ladic.components.samplers.spacing import Spacing
from ladic.errors import UsageError
from ladic.types import DrawFn, ScheduleLike

LAST_ENTRY = 999
"""Of the released code's table of 1000; a stride counts its entries."""


class RenoiseSampler(Sampler):
    """Noises the estimate anew at every step and forgets x_t.

    x_s = sqrt(alpha_bar(s)) x0 + sqrt(1 - alpha_bar(s)) z with fresh z. Each step draws from q(x_s | x0), so an early
    mistake is not carried along in the noise. It is DDIM with the largest variance that eq. 12 of Song et al. allows,
    sigma^2 = 1 - alpha_bar(s).

    Args:
        num_steps: evaluations.
        spacing: of the times: "uniform", "quadratic" or "log_snr".
        stride: as the released code counts, instead of ``num_steps`` and ``spacing``: the times are entries 999,
            999 - stride, ... of a table of 1000, down to the last above 0. Its stride of 30 makes 34 steps, not 30, and
            200 makes 5.

    Example:
        >>> RenoiseSampler(stride=30).num_steps, RenoiseSampler(stride=34).num_steps
        (34, 30)
    """

    def __init__(self, num_steps: int = 10, spacing: Spacing = "uniform", stride: int | None = None) -> None:
        if stride is not None:
            if not 1 <= stride <= LAST_ENTRY:
                raise UsageError(f"stride={stride}: accepted are 1 to {LAST_ENTRY}, entries of a table of 1000")
            num_steps = len(range(LAST_ENTRY, 0, -stride))
        super().__init__(num_steps, spacing)
        self.stride = stride

    def times(self, schedule: ScheduleLike) -> Tensor:
        if self.stride is None:
            return super().times(schedule)
        return torch.tensor([*range(LAST_ENTRY, 0, -self.stride), 0]) / LAST_ENTRY

    def with_steps(self, num_steps: int) -> Self:
        return type(self)(num_steps, self.spacing)

    def step(self, x_t: Tensor, x0: Tensor, t: Tensor, s: Tensor, schedule: ScheduleLike, draw: DrawFn) -> Tensor:
        return schedule.add_noise(x0, s, draw())
