"""The random numbers of a training step, the same on one process as on many.

Each rank draws for the whole global batch and keeps the rows of its own samples. A step's numbers are a function of
seed, epoch and step, so that a resumed run goes on with those it would have drawn, and two ranks never share a row.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Coin = Literal["share", "sample", "batch"]
"""Which samples train on an earlier estimate: exactly a share of them, each by a coin, or all or none by one coin."""


@dataclass(frozen=True)
class StepDraws:
    """What is random in a training step besides dropout; R rows are B samples times the noise draws of each.

    Attributes:
        dropped: (B,) bool, samples that train without their image.
        times: (R,) in [0, 1].
        noise: (R, L, D), standard normal.
        conditioned: indices of the rows that train on an earlier estimate, ascending.
        weight: (R,) factor of each row's loss; None is 1.
    """

    dropped: Tensor
    times: Tensor
    noise: Tensor
    conditioned: Tensor
    weight: Tensor | None = None


class BatchDraws:
    """Random tensors for the ``rows`` samples of one rank; row i belongs to sample ``i * world_size + rank``.

    Args:
        rows: B, samples of this rank.
        device: of the tensors.
        generator: where they come from; None is the device's own.
        rank: number of this process.
        world_size: W, number of processes.

    Example:
        >>> def of(rank, world_size, rows):
        ...     return BatchDraws(rows, "cpu", torch.Generator().manual_seed(0), rank, world_size).uniform(3)
        >>> bool(torch.equal(of(0, 1, 4)[1::2], of(1, 2, 2)))
        True
    """

    def __init__(
        self,
        rows: int,
        device: torch.device | str,
        generator: torch.Generator | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.rows, self.device, self.generator, self.rank, self.world_size = rows, device, generator, rank, world_size

    def uniform(self, *shape: int) -> Tensor:
        """(B, *shape) in [0, 1)."""
        return self._mine(torch.rand(self._all(), *shape, device=self.device, generator=self.generator))

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape) standard normal."""
        return self._mine(torch.randn(self._all(), *shape, device=self.device, generator=self.generator))

    def subset(self, share: float, repeats: int = 1) -> Tensor:
        """Indices of a random share of B * repeats rows, exactly that share of the whole batch's; ascending.

        Where that is no whole number of rows, one more or one less by chance, so that it is the share on average.

        Args:
            share: in [0, 1].
            repeats: consecutive rows that each sample has.
        """
        count = self._all() * repeats
        order = torch.randperm(count, device=self.device, generator=self.generator)
        taken = round(share * count)
        if abs(share * count - taken) > 1e-6:  # the one number that a GPU is waited for
            chance = torch.rand(1, device=self.device, generator=self.generator)
            taken = math.floor(share * count + float(chance))
        if self.world_size == 1:  # the same as below, and a GPU isn't waited for to count them
            return order[:taken].sort().values
        chosen = torch.zeros(count, dtype=torch.bool, device=self.device)
        chosen[order[:taken]] = True
        return self._mine(chosen.view(-1, repeats)).flatten().nonzero().flatten()

    def conditioned(self, share: float, coin: Coin, repeats: int = 1) -> Tensor:
        """Indices of the rows that train on an earlier estimate, ascending."""
        if coin == "share":
            return self.subset(share, repeats)
        if coin == "sample":
            return (self.uniform(repeats).flatten() < share).nonzero().flatten()
        heads = torch.rand(1, device=self.device, generator=self.generator) < share  # the same one on every rank
        return heads.expand(self.rows * repeats).nonzero().flatten()

    def _all(self) -> int:
        return self.rows * self.world_size

    def _mine(self, values: Tensor) -> Tensor:
        return values[self.rank :: self.world_size]


def released_draws(rows: int, length: int, width: int, entries: int = 1000) -> StepDraws:
    """A step's draws in the order of the released code, from PyTorch's and Python's global generators.

    Times; noise; the noise of a loss that is computed nowhere; kept images (rand > 0.1); and one coin for the batch,
    Python's (random > 0.5). With the same seeds, and dropout off, a step then meets the numbers that it meets there.

    Args:
        rows: B.
        length, width: L and D of the latents.
        entries: steps of the schedule's table.
    """
    steps = torch.randint(0, entries, (rows,))
    noise = torch.normal(0, 1, (rows, length, width))
    torch.normal(0, 1, (rows, length, width))
    dropped = ~(torch.rand(rows) > 0.1)
    conditioned = torch.arange(rows if random.random() > 0.5 else 0)
    return StepDraws(dropped, steps / (entries - 1), noise, conditioned)
