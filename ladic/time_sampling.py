"""Which noise levels training visits, and how often."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ladic.errors import UsageError
from ladic.spec import Buildable


class TimeSampling(Buildable, nn.Module, ABC):
    """Turns uniform draws into times. What it learns from losses lies in buffers: a resumed run goes on with it.

    Attributes:
        learns: whether ``observe`` does anything, so that losses are gathered for it.
    """

    learns = False

    @abstractmethod
    def times(self, uniform: Tensor) -> tuple[Tensor, Tensor | None]:
        """Times in [0, 1] and the factor of each one's loss, None for 1, both (R,), from draws (R,) in [0, 1)."""

    def observe(self, t: Tensor, losses: Tensor) -> None:
        """Takes note of what came out, (R,) each, of all ranks; a loss that is no number teaches nothing."""


class UniformTimes(TimeSampling):
    """Every time as often: DDPM's."""

    def __init__(self) -> None:
        super().__init__()

    def times(self, uniform: Tensor) -> tuple[Tensor, Tensor | None]:
        return uniform, None


class LogitNormalTimes(TimeSampling):
    """t = sigmoid(mean + std n) with normal n (Esser et al. 2024, "Scaling Rectified Flow Transformers", §3.1).

    Visits the middle more often and leaves losses as they are, so the objective changes: it is weighed by the density.

    Args:
        mean: above 0 moves towards noise.
        std: spread.

    Example:
        >>> LogitNormalTimes().times(torch.tensor([0.5]))[0].tolist()
        [0.5]
    """

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__()
        if not std > 0:
            raise UsageError(f"std={std}: need a positive spread")
        self.mean, self.std = mean, std

    def times(self, uniform: Tensor) -> tuple[Tensor, Tensor | None]:
        normal = torch.special.ndtri(uniform.double().clamp(1e-6, 1 - 1e-6))
        return torch.sigmoid(self.mean + self.std * normal).to(uniform.dtype), None


class LossAwareTimes(TimeSampling):
    """Importance sampling (Nichol & Dhariwal 2021, §3.3): p(t) in proportion to sqrt(E[L^2 | t]), losses over p(t).

    The expected loss stays that of uniform times, its variance falls. [0, 1] is cut into bins, and each remembers its
    last losses; until all have enough of them, times are uniform.

    Args:
        bins: equal parts of [0, 1]; the paper has one for each step.
        history: losses that a bin remembers.
        uniform: share of draws that stay uniform, so that no bin is forgotten.
    """

    learns = True

    def __init__(self, bins: int = 50, history: int = 10, uniform: float = 0.01) -> None:
        super().__init__()
        if bins < 2 or history < 1:
            raise UsageError(f"bins={bins}, history={history}: need at least 2 bins and 1 loss for each")
        if not 0 < uniform <= 1:
            raise UsageError(f"uniform={uniform}: need a share above 0, up to 1")
        self.bins, self.history, self.uniform = bins, history, uniform
        self.register_buffer("squares", torch.zeros(bins, history, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros(bins, dtype=torch.long))
        self.squares: Tensor
        self.seen: Tensor

    def probabilities(self) -> Tensor:
        """Of each bin, (bins,), summing to 1."""
        even = torch.full((self.bins,), 1 / self.bins, dtype=torch.float64, device=self.squares.device)
        if bool((self.seen < self.history).any()):
            return even
        root = self.squares.mean(1).sqrt()
        return (1 - self.uniform) * root / root.sum().clamp_min(1e-12) + self.uniform * even

    def times(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        p = self.probabilities()
        ends = p.cumsum(0)
        u = uniform.double() * ends[-1]
        index = torch.searchsorted(ends, u, right=True).clamp_max(self.bins - 1)
        within = ((u - (ends[index] - p[index])) / p[index]).clamp(0, 1)
        return ((index + within) / self.bins).to(uniform.dtype), (1 / (self.bins * p[index])).to(uniform.dtype)

    @torch.no_grad()
    def observe(self, t: Tensor, losses: Tensor) -> None:
        finite = t.isfinite() & losses.isfinite()  # one NaN would stay in every later probability, and in checkpoints
        t, losses = t[finite], losses[finite]
        places = (t * self.bins).long().clamp(0, self.bins - 1).tolist()
        for place, loss in zip(places, losses.double().tolist(), strict=True):
            self.squares[place, int(self.seen[place]) % self.history] = loss**2
            self.seen[place] += 1
