"""Re-noising: what the released LaDiC code does between two evaluations instead of a DDIM step."""

from __future__ import annotations

from torch import Tensor

from ladic.components.samplers.base import Sampler
from ladic.types import DrawFn, ScheduleLike


class RenoiseSampler(Sampler):
    """Noises the estimate anew at every step and forgets x_t.

    x_s = sqrt(alpha_bar(s)) x0 + sqrt(1 - alpha_bar(s)) z with fresh z. Each step draws from q(x_s | x0), so an early
    mistake is not carried along in the noise. It is DDIM with the largest variance that eq. 12 of Song et al. allows,
    sigma^2 = 1 - alpha_bar(s).
    """

    def step(self, x_t: Tensor, x0: Tensor, t: Tensor, s: Tensor, schedule: ScheduleLike, draw: DrawFn) -> Tensor:
        return schedule.add_noise(x0, s, draw())
