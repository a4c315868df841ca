"""What the network is asked for: the clean latent, the noise, or v; and how one is made of the other.

| asked for | is | clean latent from it |
| x0 | x0 | itself |
| epsilon (Ho et al. 2020) | eps | (x_t - sigma eps) / signal |
| v (Salimans & Ho 2022, §4) | signal eps - sigma x0 | signal x_t - sigma v |

signal = sqrt(alpha_bar), sigma = sqrt(1 - alpha_bar). Samplers, guidance and
self-conditioning know clean latents alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from ladic.components.noise_schedules.base import NoiseSchedule
from ladic.errors import UsageError

Prediction = Literal["x0", "v", "epsilon"]


@dataclass(frozen=True)
class Target:
    """A prediction target under a schedule.

    Args:
        prediction: "x0", "v" or "epsilon".
        schedule: gives signal and sigma.
    """

    prediction: Prediction
    schedule: NoiseSchedule

    def __post_init__(self) -> None:
        if self.prediction not in get_args(Prediction):
            raise UsageError(f"prediction='{self.prediction}': accepted are {', '.join(get_args(Prediction))}")

    def of(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What the network should answer: (B, L, D) from x0 and noise alike, t (B,)."""
        if self.prediction == "x0":
            return x0
        if self.prediction == "epsilon":
            return noise
        signal, sigma = self._coefficients(t)
        return (signal * noise - sigma * x0).to(x0.dtype)

    def to_x0(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The clean latent that an answer (B, L, D) to x_t (B, L, D) at t (B,) stands for."""
        if self.prediction == "x0":
            return output
        signal, sigma = self._coefficients(t)
        if self.prediction == "epsilon":
            return ((x_t - sigma * output) / signal.clamp_min(1e-4)).to(output.dtype)
        return (signal * x_t - sigma * output).to(output.dtype)

    def _coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        t = t.reshape(-1, 1, 1)
        return self.schedule.alpha_bar(t).sqrt(), self.schedule.sigma(t)
