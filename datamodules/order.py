"""In which order training visits the data: a function of seed, epoch and step, and of nothing else.

A run that was stopped goes on with exactly the samples that were left, on one process or on many: the epoch's order is
drawn for the whole run and each rank takes every W-th sample of it, so that W ranks with batches of b see together what
one process with batches of W*b sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from ladic.seeds import mixed_seed

Arrange = Callable[[Tensor, int, torch.Generator], Tensor]
"""``arrange(order (N,), global_batch, generator) -> order (N,)``: the same samples, rearranged (by length, say).

Consecutive runs of ``global_batch`` samples are batches. It draws from the generator only, so that every rank and every
restart arranges alike.
"""


class ByLength:
    """Arranges captions so that those of a batch are of like length, at random otherwise.

    The order is cut into windows of ``window`` batches; a window's captions are sorted by length, and then all batches
    are shuffled. What does not fill a batch stays last. Batches keep the latent space's full length, since a captioner
    has to learn where captions end.

    Args:
        lengths: (N,) of the items.
        window: batches that are sorted together.
    """

    def __init__(self, lengths: Tensor, window: int = 50) -> None:
        self.lengths, self.window = lengths, window

    def __call__(self, order: Tensor, global_batch: int, generator: torch.Generator) -> Tensor:
        full = len(order) // global_batch * global_batch
        if not full:
            return order
        windows = order[:full].split(self.window * global_batch)
        ordered = torch.cat([window[self.lengths[window].argsort(stable=True)] for window in windows])
        batches = ordered.view(-1, global_batch)
        batches = batches[torch.randperm(len(batches), generator=generator)]
        return torch.cat([batches.flatten(), order[full:]])


class Draw(NamedTuple):
    """A sample to load.

    Attributes:
        item: index into the data set.
        number: random and at least 0; says which of a picture's captions is taken (modulo their number), and how the
            picture is cropped.
    """

    item: int
    number: int


class TrainingOrder(DistributedSampler[Any]):
    """Samples of one rank in training order.

    A ``DistributedSampler`` in name, so that Lightning leaves it alone and tells it the epoch.

    Args:
        num_items: N, size of the data set.
        batch_size: of one rank.
        seed: of the order; the same on all ranks.
        rank: number of this process.
        world_size: W, number of processes.
        arrange: rearranges an epoch's order.

    Example:
        >>> order = TrainingOrder(10, batch_size=2, seed=0)
        >>> whole = [draw.item for draw in order]
        >>> order.start_at(epoch=0, batches=3)
        >>> [draw.item for draw in order] == whole[6:]
        True
    """

    def __init__(
        self,
        num_items: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        arrange: Arrange | None = None,
    ) -> None:
        super().__init__(range(num_items), num_replicas=world_size, rank=rank, seed=seed, drop_last=True)  # type: ignore[arg-type]
        self.num_items, self.batch_size, self.world_size, self.arrange = num_items, batch_size, world_size, arrange
        self.global_batch = batch_size * world_size
        # Batches that are not full are left out, as long as there is a full one: every rank then has the same number
        # of them, and a loss is always the mean of as many samples.
        full = num_items // self.global_batch * self.global_batch
        self.total_size = full or -(-num_items // world_size) * world_size
        self.num_samples = self.total_size // world_size
        self._skip = 0

    def __len__(self) -> int:
        return self.num_samples

    def epoch_order(self, epoch: int) -> Tensor:
        """(M, 2) items and numbers of an epoch for all ranks together; batch k of the run is its k-th stretch."""
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, epoch))
        order = torch.randperm(self.num_items, generator=generator)
        numbers = torch.randint(2**31, (self.num_items,), generator=generator)
        if self.arrange is not None:
            order = self.arrange(order, self.global_batch, generator)
        order = order.repeat(-(-self.total_size // self.num_items))[: self.total_size]  # more ranks than samples
        return torch.stack([order, numbers[order]], dim=1)

    def __iter__(self) -> Iterator[Draw]:
        mine = self.epoch_order(self.epoch)[self.rank :: self.world_size]
        skip, self._skip = self._skip, 0
        for item, number in mine[skip * self.batch_size :].tolist():
            yield Draw(item, number)
        self.epoch += 1  # for loops that name no epoch

    def set_epoch(self, epoch: int) -> None:
        """Which epoch the next iteration is; Lightning calls this before each one."""
        if epoch != self.epoch:
            self._skip = 0
        super().set_epoch(epoch)

    def start_at(self, epoch: int, batches: int) -> None:
        """The next iteration is of this epoch and leaves out its first batches, which were trained on before."""
        self.set_epoch(epoch)
        self._skip = batches


class ResumableLoader(DataLoader[Any]):
    """A loader that Lightning takes for resumable: where to go on is known to its sampler already."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to do: see ``CaptionDataModule.train_dataloader``."""
