"""Cross-entropy of a linear layer's scores, a slice of the vocabulary at a time.

The scores of all words at all positions are by far the largest tensor of a training step (64 captions of 24 positions
and 30,522 words: 188 MB in float32), and the plain way holds them several times: as scores, in float32, as
log-probabilities, as gradients. Here a slice of words exists at a time, in float32, and once more in the backward
pass; its gradients go into the slice's own rows of the weights, so that nothing of that size is summed up either.
PyTorch's own ``linear_cross_entropy`` (2.13) slices the rows, and gives the mean or the sum alone, where our losses are
weighted by sample.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

WORDS = 4096
"""In a slice: as float32 scores of 64 captions of 24 positions, 25 MB."""


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, words: int = WORDS
) -> tuple[Tensor, Tensor]:
    """Cross-entropy in float32, and the index of the highest score, each (...), of ``F.linear(hidden, weight, bias)``.

    Args:
        hidden: (..., W).
        weight: (V, W).
        bias: (V,).
        targets: (...) indices below V.
        words: in a slice.

    Example:
        >>> hidden, weight, bias = torch.randn(2, 3, 8), torch.randn(5, 8), torch.zeros(5)
        >>> losses, best = linear_cross_entropy(hidden, weight, bias, torch.zeros(2, 3, dtype=torch.long))
        >>> torch.equal(best, (hidden @ weight.T).argmax(-1)), losses.shape
        (True, torch.Size([2, 3]))
    """
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        hidden, weight, bias = hidden.to(dtype), weight.to(dtype), bias.to(dtype)
    losses, best = _Sliced.apply(hidden.flatten(0, -2), weight, bias, targets.flatten(), words)
    return losses.view_as(targets), best.view_as(targets)


class _Sliced(torch.autograd.Function):
    """On rows (R, W). The scores are computed again for the gradients: a product more, and never kept."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, words: int
    ) -> tuple[Tensor, Tensor]:
        norm = hidden.new_full((len(hidden),), -torch.inf, dtype=torch.float32)
        highest, wanted = norm.clone(), norm.clone()
        best = torch.zeros_like(targets)
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(weight), words):
                scores = F.linear(hidden, weight[start : start + words], bias[start : start + words]).float()
                norm = torch.logaddexp(norm, scores.logsumexp(-1))
                top, index = scores.max(-1)
                best = torch.where(top > highest, index + start, best)
                highest = torch.maximum(highest, top)
                inside, place = _places(targets, start, scores.shape[1])
                wanted = torch.where(inside, scores.gather(1, place).squeeze(1), wanted)
        ctx.save_for_backward(hidden, weight, bias, targets, norm)
        ctx.words = words
        ctx.mark_non_differentiable(best)
        return norm - wanted, best

    @staticmethod
    def backward(ctx: Any, gradients: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, norm = ctx.saved_tensors
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        on_hidden = torch.zeros_like(hidden, dtype=torch.float32) if wants_hidden else None
        on_weight = torch.empty_like(weight) if wants_weight else None
        on_bias = torch.empty_like(bias) if wants_bias else None
        for start in range(0, len(weight), ctx.words):
            part = slice(start, start + ctx.words)
            errors = F.linear(hidden, weight[part], bias[part]).float().sub_(norm.unsqueeze(1)).exp_()
            inside, place = _places(targets, start, errors.shape[1])
            errors.scatter_add_(1, place, -inside.float().unsqueeze(1)).mul_(gradients.unsqueeze(1))
            half = errors.to(hidden.dtype)
            if on_hidden is not None:
                on_hidden += half @ weight[part]
            if on_weight is not None:
                torch.mm(half.T, hidden, out=on_weight[part])
            if on_bias is not None:
                on_bias[part] = errors.sum(0)
        return None if on_hidden is None else on_hidden.to(hidden.dtype), on_weight, on_bias, None, None


def _places(targets: Tensor, start: int, words: int) -> tuple[Tensor, Tensor]:
    """Which targets (R,) lie in a slice of so many words, (R,), and where in it, (R, 1)."""
    place = targets - start
    return (place >= 0) & (place < words), place.clamp(0, words - 1).unsqueeze(1)
