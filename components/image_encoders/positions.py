"""Position embeddings of a vision transformer on a grid of another size."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def resize_positions(positions: Tensor, patches: int) -> Tensor:
    """Embeddings (1, 1 + n^2, C), of [CLS] and a grid, for a grid of ``patches`` = m^2 patches: (1, 1 + m^2, C).

    Upwards this is BLIP's own bicubic interpolation. Downwards, where sampling the finer grid would lose what lies
    between, it is the coarser grid whose interpolation is nearest to the finer one: grids that were made by enlarging
    one come back to 1e-6.

    Example:
        >>> small = torch.randn(1, 1 + 14 * 14, 8)
        >>> bool((resize_positions(resize_positions(small, 24 * 24), 14 * 14) - small).abs().max() < 1e-5)
        True
    """
    old, new = math.isqrt(positions.shape[1] - 1), math.isqrt(patches)
    if old == new:
        return positions
    grid = positions[0, 1:].double().unflatten(0, (old, old))
    matrix = _interpolation(old, new) if new > old else torch.linalg.pinv(_interpolation(new, old))
    resized = torch.einsum("ai,bj,ijc->abc", matrix, matrix, grid).flatten(0, 1).to(positions.dtype)
    return torch.cat([positions[:, :1], resized.unsqueeze(0)], dim=1)


def _interpolation(old: int, new: int) -> Tensor:
    """(new, old) matrix of bicubic interpolation along one side of the grid."""
    columns = torch.eye(old, dtype=torch.float64)[None, None]
    return F.interpolate(columns, size=(new, old), mode="bicubic", align_corners=False)[0, 0]
