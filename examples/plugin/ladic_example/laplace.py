"""The Laplace schedule (Hang et al. 2024, "Improved Noise Schedule for Diffusion Training", table 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from ladic.components import NoiseSchedule
from ladic.errors import UsageError


class LaplaceSchedule(NoiseSchedule):
    """log SNR is Laplace-distributed over the times, so that most of the training is at middling noise.

        log_snr(t) = mean - scale sgn(1/2 - t) log(1 - 2 |t - 1/2|),    alpha_bar = sigmoid(log_snr)

    It is cut off at +-``limit``, where it would be infinite.

    Args:
        mean: log SNR at t = 1/2.
        scale: spread of the distribution.
        limit: largest log SNR.

    Example:
        >>> LaplaceSchedule().alpha_bar(torch.tensor([0.0, 0.5, 1.0])).round(decimals=3).tolist()
        [1.0, 0.5, 0.0]
    """

    def __init__(self, mean: float = 0.0, scale: float = 0.5, limit: float = 11.5) -> None:
        if scale <= 0 or limit <= abs(mean):
            raise UsageError(f"mean={mean}, scale={scale}, limit={limit}: need scale > 0 and limit > |mean|")
        self.mean, self.scale, self.limit = mean, scale, limit

    def alpha_bar(self, t: Tensor) -> Tensor:
        t = self.full_precision(t)
        spread = torch.sign(0.5 - t) * torch.log1p(-2 * (t - 0.5).abs())
        return torch.sigmoid((self.mean - self.scale * spread).clamp(-self.limit, self.limit))
