"""The random numbers of a training step, the same on one process as on many.

Each rank draws for the whole global batch and keeps the rows of its own samples. A step's numbers are a function of
seed, epoch and step, so that a resumed run goes on with those it would have drawn, and two ranks never share a row.
"""

from __future__ import annotations

import torch
from torch import Tensor


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

        Args:
            share: in [0, 1].
            repeats: consecutive rows that each sample has.
        """
        count = self._all() * repeats
        chosen = torch.zeros(count, dtype=torch.bool, device=self.device)
        order = torch.randperm(count, device=self.device, generator=self.generator)
        chosen[order[: round(share * count)]] = True
        return self._mine(chosen.view(-1, repeats)).flatten().nonzero().flatten()

    def _all(self) -> int:
        return self.rows * self.world_size

    def _mine(self, values: Tensor) -> Tensor:
        return values[self.rank :: self.world_size]
