"""DDIM (Song et al. 2021, eq. 12), the paper's sampler (Table 7)."""

from __future__ import annotations

from torch import Tensor

from ladic.components.samplers.base import Sampler, added_variance, signal_and_noise
from ladic.components.samplers.spacing import Spacing
from ladic.errors import UsageError
from ladic.types import DrawFn, ScheduleLike


class DDIMSampler(Sampler):
    """Keeps the noise that x_t implies, adding fresh noise in the measure of eta.

    x_s = sqrt(a_s) x0 + sqrt(1 - a_s - v) eps + sqrt(v) z, with eps read off x_t and x0.

    | symbol | here |
    | a_t, a_s | alpha_bar at the current and the next time |
    | v | eta^2 (1 - a_s) / (1 - a_t) (1 - a_t / a_s) |

    1 - a stands for the variance of the noise, which ``DilatedSchedule`` has stretched.

    Args:
        num_steps: evaluations.
        eta: 0 is deterministic; 1 has the variance of DDPM's ancestral sampler.
        spacing: of the times: "uniform", "quadratic" or "log_snr".
    """

    def __init__(self, num_steps: int = 10, eta: float = 0.0, spacing: Spacing = "uniform") -> None:
        super().__init__(num_steps, spacing)
        if not 0 <= eta <= 1:
            raise UsageError(f"eta={eta}: need 0 <= eta <= 1")
        self.eta = eta

    def step(self, x_t: Tensor, x0: Tensor, t: Tensor, s: Tensor, schedule: ScheduleLike, draw: DrawFn) -> Tensor:
        if self.eta == 0:
            return deterministic_step(x_t, x0, t, s, schedule)
        signal_t, noise_t = signal_and_noise(schedule, t)
        signal_s, noise_s = signal_and_noise(schedule, s)
        eps = (x_t - signal_t * x0) / noise_t.clamp_min(1e-6)
        variance = (self.eta * noise_s / noise_t.clamp_min(1e-6)) ** 2 * added_variance(schedule, t, s)
        direction = (noise_s**2 - variance).clamp_min(0).sqrt()
        return signal_s * x0 + direction * eps + variance.sqrt() * draw()


def deterministic_step(x_t: Tensor, x0: Tensor, t: Tensor, s: Tensor, schedule: ScheduleLike) -> Tensor:
    """DDIM's step with eta = 0, also a first-order step of the probability-flow ODE: x_s from x_t and x0, (B, L, D)."""
    signal_t, noise_t = signal_and_noise(schedule, t)
    signal_s, noise_s = signal_and_noise(schedule, s)
    return signal_s * x0 + noise_s * ((x_t - signal_t * x0) / noise_t.clamp_min(1e-6))
