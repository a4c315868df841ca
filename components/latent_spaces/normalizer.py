"""Per-feature standardisation of text latents (paper §3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LatentNormalizer(nn.Module):
    """norm(x) = (x - mean) / (std + eps), with mean and std (D,) over many captions, kept as buffers.

    Args:
        width: D.
        eps: added to std (the paper's; the released code has none).
        enabled: without, features are latents as they are, and there is nothing to fit.

    Example:
        >>> normalizer = LatentNormalizer(2)
        >>> normalizer.fit(torch.tensor([[0.0, 1.0], [2.0, 5.0]]))
        >>> normalizer.std.tolist()
        [1.41..., 2.82...]
    """

    def __init__(self, width: int, eps: float = 1e-6, enabled: bool = True) -> None:
        super().__init__()
        self.eps, self.enabled = eps, enabled
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.register_buffer("fitted", torch.tensor(not enabled))
        self.mean: Tensor
        self.std: Tensor
        self.fitted: Tensor

    def fit(self, features: Tensor) -> None:
        """Takes the statistics (unbiased variance) of features (M, D)."""
        self.set(features.double().mean(0), features.double().std(0))

    def set(self, mean: Tensor, std: Tensor) -> None:
        """Takes statistics computed elsewhere, each (D,)."""
        self.mean.copy_(mean)
        self.std.copy_(std)
        self.fitted.fill_(True)

    def normalize(self, features: Tensor) -> Tensor:
        """Raw features (..., D) to latents."""
        return (features - self.mean) / (self.std + self.eps) if self.enabled else features

    def denormalize(self, latents: Tensor) -> Tensor:
        """Latents (..., D) back to raw features."""
        return latents * (self.std + self.eps) + self.mean if self.enabled else latents
