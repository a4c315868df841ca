"""Streams of samples out of tar shards, in an order that follows from seed, epoch, step and reader."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ladic.datamodules.images import SUFFIXES, BrokenImageError, decode_image
from ladic.datamodules.items import Collate
from ladic.datamodules.transforms import Augment, augmented, tells_sides, to_tensor
from ladic.errors import UsageError
from ladic.seeds import mixed_seed
from ladic.types import CaptionBatch, CaptionerLike

Sample = dict[str, Any]
PICTURES = tuple(suffix.removeprefix(".") for suffix in sorted(SUFFIXES))
AT_LEAST = 1000
"""Samples over which a share of broken ones is reckoned at least, so that the first one doesn't decide."""


class TrainingShards(IterableDataset[CaptionBatch]):
    """Whole batches of an epoch for one process; see ``WebDatasetDataModule`` for what is promised.

    Batch b of a process comes from its reader b modulo the number of workers. After a restart at batch b the workers
    change places, so that the first to be asked is the one whose turn it is, and each passes over what it gave before.

    Args:
        shards: files or addresses.
        captioner: says how pictures are prepared and captions tokenised.
        seed: of the order; the same on all processes.
        batch_size: of one process.
        batches: of an epoch.
        rank: number of this process.
        world_size: number of processes.
        buffer: samples that are shuffled together.
        augment: what is done to pictures at random.
        skip_broken: share of a reader's samples that may be broken.
    """

    def __init__(
        self,
        shards: list[str],
        captioner: CaptionerLike,
        *,
        seed: int,
        batch_size: int,
        batches: int,
        rank: int = 0,
        world_size: int = 1,
        buffer: int = 1000,
        augment: Augment = "none",
        skip_broken: float = 0.0,
    ) -> None:
        self.shards, self.preprocess, self.collate = shards, captioner.preprocess, Collate(captioner)
        self.seed, self.batch_size, self.batches, self.rank, self.world_size = (
            seed,
            batch_size,
            batches,
            rank,
            world_size,
        )
        self.buffer, self.augment, self.skip_broken = buffer, augment, skip_broken
        self.epoch = self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """Which epoch the next iteration is; Lightning calls this before each one."""
        if epoch != self.epoch:
            self.start = 0
        self.epoch = epoch

    def start_at(self, epoch: int, batches: int) -> None:
        """Iterations of this epoch leave out its first batches, which were trained on before."""
        self.epoch, self.start = epoch, batches

    def __iter__(self) -> Iterator[CaptionBatch]:
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        turn = (worker + self.start) % workers
        items = self._items(self.rank * workers + turn, self.world_size * workers, turn, workers)
        for _ in range(turn, self.batches, workers):
            if (batch := next(items)) is not None:
                yield self.collate(batch)

    def _items(self, reader: int, readers: int, turn: int, workers: int) -> Iterator[list[dict[str, Any]] | None]:
        """A reader's batches without end; None for those before the start, which are not decoded."""
        stream, number, seen, broken = self._shuffled(reader, readers), turn, 0, 0
        while True:
            passed = number < self.start
            batch: list[dict[str, Any]] = []
            while len(batch) < self.batch_size:
                sample, draw = next(stream)
                seen += 1
                if passed and not self.skip_broken:
                    batch.append({})
                    continue
                try:
                    batch.append(self._item(sample, draw))
                except BrokenImageError as error:
                    broken += 1
                    if broken > self.skip_broken * max(seen, AT_LEAST):
                        raise UsageError(
                            f"data.skip_broken={self.skip_broken:g}: {broken} of the first {seen} samples of a reader "
                            f"are broken: {error}; mend them, or allow a larger share"
                        ) from error
                    print(f"left out: {error}", file=sys.stderr)
            yield None if passed else batch
            number += workers

    def _shuffled(self, reader: int, readers: int) -> Iterator[tuple[Sample, int]]:
        """A reader's samples without end, each with a random number."""
        epoch_wide = torch.Generator().manual_seed(mixed_seed(self.seed, self.epoch))
        own = torch.Generator().manual_seed(mixed_seed(self.seed, self.epoch, reader, readers))
        mine = torch.randperm(len(self.shards), generator=epoch_wide)[reader::readers].tolist()
        kept: list[Sample] = []

        def drawn(below: int) -> int:
            return int(torch.randint(below, (1,), generator=own))

        while True:
            found = False
            for shard in mine:
                for sample in samples_of(self.shards[shard]):
                    found = True
                    kept.append(sample)
                    if len(kept) > self.buffer:
                        place = drawn(len(kept))
                        kept[place], kept[-1] = kept[-1], kept[place]
                        yield kept.pop(), drawn(2**31)
            if not found:
                raise UsageError(f"data.train: no samples in '{self.shards[mine[0]]}' and the others of its reader")
            while kept:  # what a pass has left comes before the next, so that none is passed over
                place = drawn(len(kept))
                kept[place], kept[-1] = kept[-1], kept[place]
                yield kept.pop(), drawn(2**31)

    def _item(self, sample: Sample, number: int) -> dict[str, Any]:
        captions, image = captions_of(sample, sample["__url__"]), picture_of(sample)
        flip = self.augment != "none" and not tells_sides(captions)
        return {
            "image": augmented(image, self.preprocess, self.augment, mixed_seed(number, 2), flip),
            "image_id": sample["__key__"],
            "caption": captions[number % len(captions)],
        }


class EvaluationShards(IterableDataset[dict[str, Any]]):
    """Every sample once, over all processes and workers; what is left over at a worker's end, to all processes.

    Worker w of every process reads the same shards. Where their samples don't come out even, the last one is repeated
    for the processes that would have one fewer: all of them have as many batches, and may ask each other at each.
    "names" of an item are the (name, shard) that its worker met since the one before, those of other processes too.
    """

    def __init__(
        self, shards: list[str], captioner: CaptionerLike, rank: int = 0, world_size: int = 1, limit: int | None = None
    ) -> None:
        self.shards, self.preprocess, self.rank, self.world_size = shards, captioner.preprocess, rank, world_size
        self.limit = limit

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        if self.limit is not None:  # the first so many of all, which a single worker can count
            if worker:
                return
            worker, workers = 0, 1
        position, names = 0, list[tuple[str, str]]()
        samples = ((shard, sample) for shard in self.shards[worker::workers] for sample in samples_of(shard))
        for shard, sample in islice(samples, self.limit):
            names.append((sample["__key__"], shard))
            if position % self.world_size == self.rank:
                yield {**self._item(sample, shard), "names": names}
                names = []
            position += 1
        if 0 < position % self.world_size <= self.rank:
            yield {**self._item(sample, shard), "names": names}
        elif names:  # no picture any more
            yield {"names": names}

    def _item(self, sample: Sample, shard: str) -> dict[str, Any]:
        captions = captions_of(sample, shard)
        image = to_tensor(picture_of(sample), self.preprocess)
        return {"image": image, "image_id": sample["__key__"], "caption": captions[0], "references": captions}


class EvaluationLoader(DataLoader[Any]):
    """Batches of ``EvaluationShards``, collated by ``CollateNamed``.

    Raises:
        UsageError: at the second sample of a name; captions are kept by name, and one of the two would be lost.
    """

    def __iter__(self) -> Any:
        shards: dict[str, str] = {}
        for names, batch in super().__iter__():  # no batch beside a worker's last names
            for name, shard in names:
                if name in shards:
                    raise UsageError(
                        f"shard '{shard}': a sample called '{name}' is in '{shards[name]}' already; a sample's name is "
                        "its image id, so give each a name of its own"
                    )
                shards[name] = shard
            if batch is not None:
                yield batch


class CollateNamed(Collate):
    """A batch, and beside it the names that its items tell."""

    def __call__(self, items: list[dict[str, Any]]) -> Any:
        pictures = [item for item in items if "image" in item]
        return [name for item in items for name in item["names"]], super().__call__(pictures) if pictures else None


def samples_of(shard: str) -> Iterator[Sample]:
    """Samples of a shard in its order, their files as bytes.

    Raises:
        UsageError: naming the shard, if it can't be read to its end.
    """
    from webdataset.tariterators import tarfile_samples

    try:
        yield from tarfile_samples([{"url": shard}])
    except UsageError:
        raise
    except Exception as error:  # webdataset adds the address to errors of every kind
        raise UsageError(f"shard '{shard}': can't be read ({str(error).splitlines()[0]}); is it whole?") from error


def captions_of(sample: Sample, shard: str) -> list[str]:
    """A sample's captions on single spaces.

    Raises:
        UsageError: naming the sample, if it has none.
    """
    where = f"shard '{shard}': sample '{sample['__key__']}'"
    try:
        if "json" in sample:
            content = json.loads(sample["json"])
            found = content.get("captions", content.get("caption")) if isinstance(content, dict) else None
            listed = found if isinstance(found, list) else [found]
        else:
            listed = sample["txt"].decode("utf-8").splitlines() if "txt" in sample else []
    except ValueError as error:
        raise UsageError(f"{where}: its captions can't be read ({error})") from error
    captions = [" ".join(caption.split()) for caption in listed if isinstance(caption, str) and caption.strip()]
    if not captions:
        raise UsageError(f"{where} has no caption: it needs a .txt with one a line, or a .json with 'captions'")
    return captions


def picture_of(sample: Sample) -> Any:
    """A sample's picture as RGB.

    Raises:
        BrokenImageError: naming it, if it has none or a broken one.
    """
    name = f"{sample['__url__']}:{sample['__key__']}"
    ending = next((ending for ending in PICTURES if ending in sample), None)
    if ending is None:
        raise BrokenImageError(f"image '{name}': the sample has no picture ({', '.join(PICTURES)})")
    return decode_image(io.BytesIO(sample[ending]), f"{name}.{ending}")
