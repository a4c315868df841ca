"""Square-root schedule of Diffusion-LM (Li et al. 2022, appendix A)."""

from __future__ import annotations

from torch import Tensor

from ladic.components.noise_schedules.base import NoiseSchedule
from ladic.errors import UsageError


class SqrtSchedule(NoiseSchedule):
    """alpha_bar(t) = 1 - sqrt(t + s): noise comes quickly at first, since words are still read through a little of it.

    Args:
        s: noise at t = 0; its standard deviation is the fourth root of s, 0.1.
        floor: least alpha_bar; keeps log_snr finite at t = 1.

    Example:
        >>> import torch
        >>> SqrtSchedule().alpha_bar(torch.tensor([0.0, 0.25])).tolist()
        [0.99..., 0.4999...]
    """

    def __init__(self, s: float = 1e-4, floor: float = 1e-5) -> None:
        if not 0 <= s < 1 or not 0 <= floor < 1:
            raise UsageError(f"s={s}, floor={floor}: need 0 <= s < 1 and 0 <= floor < 1")
        self.s, self.floor = s, floor

    def alpha_bar(self, t: Tensor) -> Tensor:
        return (1 - (self.full_precision(t) + self.s).clamp_min(0).sqrt()).clamp(self.floor, 1.0)
