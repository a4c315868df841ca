"""Tar shards of pictures and captions, read as streams: training on more than one machine's disk holds."""

from __future__ import annotations

import glob
import warnings
from pathlib import Path
from typing import Any, Literal

from torch.utils.data import DataLoader

from ladic.datamodules.base import CaptionDataModule, position
from ladic.datamodules.order import ResumableLoader
from ladic.datamodules.shards import (
    CollateNamed,
    EvaluationLoader,
    EvaluationShards,
    TrainingShards,
    captions_of,
    samples_of,
)
from ladic.datamodules.source import CaptionSource
from ladic.errors import UsageError


class WebDatasetDataModule(CaptionDataModule):
    """Shards in WebDataset's layout: tar files in which the files of a sample follow each other and share their name.

    A sample is a picture (``000.jpg``, png, webp, …) with ``000.txt``, one caption a line, or ``000.json`` with
    "caption" or "captions". Its name is its image id. A caption is drawn each time that a picture comes.

    What is promised about order: shards are shuffled by seed and epoch and dealt out to the readers (processes times
    workers); each reader shuffles its samples in a buffer. The order follows from seed, epoch, step and the number of
    readers, so a resumed run with as many of them goes on with the very samples that an unbroken one would have seen.
    What is not: an epoch is ``samples_per_epoch`` samples by count. A reader whose shards hold fewer than its part
    begins them again, one whose shards hold more leaves the rest; shards of equal size, in a multiple of the readers'
    number, are each seen once. With another number of processes or workers the order is another.

    Args:
        train: shards to train on: a pattern like ``data/train-{0000..0127}.tar`` or ``data/train-*.tar``, or an
            address (http, https, gs) of that kind.
        val: shards to validate on; every sample is read once, and its name must be in no other.
        test: shards to test and predict on.
        samples_per_epoch: samples that count as an epoch, over all processes.
        shuffle_buffer: samples among which each reader draws.
        unit: "image": an epoch counts pictures, each with a caption drawn for it.
        options: those of ``CaptionDataModule``; "features", "group_by_length" and "limit_train" don't go with streams.

    Raises:
        UsageError: if there are no shards, fewer than readers, or one can't be read.
    """

    def __init__(
        self,
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        samples_per_epoch: int = 100_000,
        shuffle_buffer: int = 1000,
        unit: Literal["caption", "image"] = "image",
        **options: Any,
    ) -> None:
        super().__init__(unit=unit, **options)
        for name in ("features", "group_by_length", "limit_train"):
            if getattr(self, name):
                raise UsageError(f"data.{name}={getattr(self, name)}: doesn't go with shards that are read as streams")
        if self.unit != "image":
            raise UsageError(f"data.unit='{self.unit}': of shards, an epoch counts pictures; leave it out")
        for name, value in (("samples_per_epoch", samples_per_epoch), ("shuffle_buffer", shuffle_buffer)):
            if value < 1:
                raise UsageError(f"data.{name}={value}: need at least 1")
        self.patterns = {"train": train, "val": val, "test": test}
        self.samples_per_epoch, self.shuffle_buffer = samples_per_epoch, shuffle_buffer

    def source(self, split: str) -> CaptionSource:
        raise UsageError("data=WebDatasetDataModule: shards are streams; this command needs pictures by number")

    def train_captions(self, limit: int | None = None) -> list[str]:
        captions: list[str] = []
        for shard in self.shards("train"):
            for sample in samples_of(shard):
                captions += captions_of(sample, shard)
                if limit is not None and len(captions) >= limit:
                    return captions[:limit]
        return captions

    def shards(self, split: str) -> list[str]:
        """Files or addresses of a split's shards.

        Raises:
            UsageError: if there are none.
        """
        pattern = self.patterns[split]
        if pattern is None:
            raise UsageError(f"data.{split}: has to be given, a pattern of shards like data/{split}-{{0000..0009}}.tar")
        if pattern.startswith("pipe:"):
            raise UsageError(
                f"data.{split}='{pattern}': would run a command of the shell; give files or http, https or gs addresses"
            )
        try:
            import braceexpand
            import webdataset  # noqa: F401
        except ImportError as error:
            raise UsageError(
                f"data=WebDatasetDataModule: needs the package {error.name}; pip install 'ladic[webdataset]'"
            ) from error
        found: list[str] = []
        for one in braceexpand.braceexpand(pattern):
            found += [one] if "://" in one else sorted(glob.glob(one)) if glob.has_magic(one) else [one]
        missing = [one for one in found if "://" not in one and not Path(one).is_file()]
        if not found or missing:
            which = f"'{missing[0]}' is missing ({len(missing)} of {len(found)})" if missing else "no file matches"
            raise UsageError(f"data.{split}='{pattern}': {which}")
        return found

    def setup(self, stage: str) -> None:
        if self.trainer is not None:
            self.bind(self.trainer.lightning_module)  # type: ignore[arg-type]
        if self.captioner is None:
            raise UsageError("datamodule: call bind(captioner) first; preprocessing and tokeniser are the model's")
        for name in {"fit": ("train", "val"), "validate": ("val",)}.get(stage, ("test",)):
            self.shards(name)  # what is missing is told before anything is built

    def train_dataloader(self) -> DataLoader[Any]:
        assert self.captioner is not None
        trainer = self.trainer
        rank, world = (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
        shards, readers = self.shards("train"), world * max(1, self.num_workers)
        if len(shards) < readers:
            raise UsageError(
                f"data.train: {len(shards)} shards for {readers} readers ({world} processes with "
                f"{max(1, self.num_workers)} workers each); write more shards, or lower --data.num_workers"
            )
        batches = self.samples_per_epoch // (self.batch_size * world)
        if not batches:
            raise UsageError(
                f"data.samples_per_epoch={self.samples_per_epoch}: less than a batch of all ({self.batch_size * world})"
            )
        data = TrainingShards(
            shards,
            self.captioner,
            seed=self._shared_seed(),
            batch_size=self.batch_size,
            batches=batches,
            rank=rank,
            world_size=world,
            buffer=self.shuffle_buffer,
            augment=self.augment,
            skip_broken=self.skip_broken,
        )
        epoch, start = (0, 0) if trainer is None else position(trainer, batches)
        if start and self._order.get("readers", readers) != readers:
            warnings.warn(
                f"the checkpoint was made with {self._order['readers']} readers, now {readers}: the rest of epoch "
                f"{epoch} may repeat or leave out samples",
                stacklevel=2,
            )
        self._order = {"seed": data.seed, "readers": readers}
        return ShardLoader(data, epoch, start, self.num_workers)

    def _loader(self, split: str) -> DataLoader[Any]:
        assert self.captioner is not None
        rank, world = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        data = EvaluationShards(self.shards(split), self.captioner, rank, world, self.limit_eval)
        collate = CollateNamed(self.captioner)
        return EvaluationLoader(data, self.eval_batch_size, num_workers=self.num_workers, collate_fn=collate)


class ShardLoader(ResumableLoader):
    """Batches of training shards; Lightning says which epoch comes, and the first one begins where a run goes on."""

    def __init__(self, data: TrainingShards, epoch: int, start: int, num_workers: int) -> None:
        # No persistent workers: theirs is the epoch that they were started with.
        super().__init__(data, batch_size=None, num_workers=num_workers)
        data.start_at(epoch, start)
        self.shards = data
        # Where Lightning tells the epoch; torch takes no sampler of ours beside a stream.
        setattr(self.sampler, "set_epoch", data.set_epoch)  # noqa: B010  # mypy knows no such sampler

    def __len__(self) -> int:
        return self.shards.batches
