"""What every datamodule shares: batches of pictures (or cached tokens) and captions.

The datamodule knows no model. At the start of a run it asks the captioner how pictures are prepared and captions
tokenised, so that both follow the swapped encoder and latent space.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from ladic.datamodules.order import Draw, ResumableLoader, TrainingOrder
from ladic.datamodules.source import CaptionSource
from ladic.datamodules.transforms import to_tensor
from ladic.errors import UsageError
from ladic.features import FeatureCache
from ladic.spec import Buildable
from ladic.types import CaptionBatch, CaptionerLike

SPLITS = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("test",)}


class CaptionDataModule(Buildable, LightningDataModule, ABC):
    """Base of all datamodules. A subclass defines ``source(split)``.

    Args:
        batch_size: captions (or pictures) in a training batch, on each device.
        eval_batch_size: pictures in an evaluation batch.
        num_workers: processes that load pictures.
        unit: what an epoch visits once: every "caption", or every "image" with one of its captions drawn at random.
        features: folder of cached image tokens; the encoder is then not run.
        limit_train: use only the first so many pictures for training.
        limit_eval: the same for validation and test.
    """

    def __init__(
        self,
        batch_size: int = 64,
        eval_batch_size: int = 64,
        num_workers: int = 0,
        unit: Literal["caption", "image"] = "caption",
        features: str | None = None,
        limit_train: int | None = None,
        limit_eval: int | None = None,
    ) -> None:
        super().__init__()
        sizes = {"batch_size": batch_size, "eval_batch_size": eval_batch_size}
        for name, value in {**sizes, "limit_train": limit_train, "limit_eval": limit_eval}.items():
            if value is not None and value < 1:
                raise UsageError(f"data.{name}={value}: need at least 1")
        if unit not in ("caption", "image"):
            raise UsageError(f"data.unit='{unit}': accepted are 'caption' and 'image'")
        self.batch_size, self.eval_batch_size, self.num_workers = batch_size, eval_batch_size, num_workers
        self.unit, self.features = unit, features
        self.limit_train, self.limit_eval = limit_train, limit_eval
        self.captioner: CaptionerLike | None = None
        self._items: dict[str, CaptionItems] = {}
        self._order: dict[str, int] = {}  # seed and sizes that the order of training follows, as in the checkpoint

    @abstractmethod
    def source(self, split: str) -> CaptionSource:
        """Pictures and captions of "train", "val" or "test"."""

    def split(self, name: str) -> CaptionSource:
        """``source``, cut to ``limit_train`` or ``limit_eval``."""
        source, limit = self.source(name), self.limit_train if name == "train" else self.limit_eval
        return source if limit is None or limit >= len(source) else Head(source, limit)

    def train_captions(self, limit: int | None = None) -> list[str]:
        """Captions of the training split, at most ``limit``, picture by picture: what a text space is fitted on."""
        source, captions = self.split("train"), []
        for index in range(len(source)):
            captions += source.captions(index)
            if limit is not None and len(captions) >= limit:
                return captions[:limit]
        return captions

    def bind(self, captioner: CaptionerLike) -> None:
        """Takes preprocessing and tokeniser from the model; a trainer's run does this by itself."""
        self.captioner = captioner

    def setup(self, stage: str) -> None:
        if self.trainer is not None:
            self.bind(self.trainer.lightning_module)  # type: ignore[arg-type]
        if self.captioner is None:
            raise UsageError("datamodule: call bind(captioner) first; preprocessing and tokeniser are the model's")
        for name in SPLITS[stage]:
            source = self.split(name)
            by_caption = name == "train" and self.unit == "caption"
            self._items[name] = CaptionItems(source, self.captioner, by_caption, self._cache(name, source))

    def _cache(self, split: str, source: CaptionSource) -> FeatureCache | None:
        if self.features is None:
            return None
        assert self.captioner is not None
        cache = FeatureCache(self.features, split)
        cache.check(self.captioner.encoder_fingerprint(), [source.image_id(i) for i in range(len(source))])
        return cache

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on in the same order: the seed, and the sizes to compare with."""
        return dict(self._order)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._order = dict(state_dict)

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches in an order that follows from seed, epoch and step; it begins where the trainer's run goes on."""
        items, order = self._items["train"], self._training_order(len(self._items["train"]))
        assert self.captioner is not None
        return ResumableLoader(
            items,
            batch_size=self.batch_size,
            sampler=order,
            drop_last=len(order) >= self.batch_size,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=Collate(self.captioner, train=True),
        )

    def _training_order(self, num_items: int) -> TrainingOrder:
        trainer = self.trainer
        seed = self._order.get("seed")
        if seed is None:  # `seed_everything` left it there; ranks that were not given one have different ones
            seed = torch.initial_seed() % 2**63
            seed = seed if trainer is None else trainer.strategy.broadcast(seed)
        rank, world = (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
        order = TrainingOrder(num_items, self.batch_size, seed, rank, world)
        sizes = {"samples": num_items, "global_batch": order.global_batch}
        if trainer is not None:
            epoch, batches = position(trainer, len(order) // self.batch_size)
            order.start_at(epoch, batches)
            changed = {
                name: (self._order[name], size) for name, size in sizes.items() if self._order.get(name, size) != size
            }
            if batches and changed:
                told = ", ".join(f"{name} {before}, now {now}" for name, (before, now) in changed.items())
                warnings.warn(
                    f"the checkpoint was made with other sizes ({told}): the rest of epoch {epoch} may repeat or leave "
                    "out samples",
                    stacklevel=2,
                )
        self._order = {"seed": seed, **sizes}
        return order

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        return self._loader("test")

    def _loader(self, split: str) -> DataLoader[Any]:
        assert self.captioner is not None
        return DataLoader(
            self._items[split],
            batch_size=self.eval_batch_size,
            num_workers=self.num_workers,
            collate_fn=Collate(self.captioner, train=False),
        )


def position(trainer: Any, batches_per_epoch: int) -> tuple[int, int]:
    """Epoch and batches of it that a trainer has behind it; those of the checkpoint where it resumes from one."""
    epochs, batches = trainer.fit_loop.epoch_progress.current, trainer.fit_loop.epoch_loop.batch_progress.current
    # "processed" is set before the hooks that save checkpoints, "completed" only after them.
    if epochs.ready == epochs.processed:
        return epochs.processed, 0
    whole = batches.processed >= batches_per_epoch
    return (epochs.processed + 1, 0) if whole else (epochs.processed, batches.processed)


class CaptionItems(Dataset[dict[str, Any]]):
    """Items of a split: a picture (or its cached tokens) with one caption to train on, or all to be scored with."""

    def __init__(
        self, source: CaptionSource, captioner: CaptionerLike, by_caption: bool, cache: FeatureCache | None
    ) -> None:
        self.source, self.preprocess, self.cache = source, captioner.preprocess, cache
        self.pairs: list[tuple[int, int]] | None = None
        if by_caption:
            counts = [len(source.captions(index)) for index in range(len(source))]
            self.pairs = [(index, which) for index, count in enumerate(counts) for which in range(count)]

    def __len__(self) -> int:
        return len(self.source) if self.pairs is None else len(self.pairs)

    def __getitem__(self, item: int | Draw) -> dict[str, Any]:
        """An item; where an epoch visits pictures, the draw's number says which caption comes with it."""
        draw = item if isinstance(item, Draw) else Draw(item, 0)
        index, which = (draw.item, draw.number) if self.pairs is None else self.pairs[draw.item]
        captions, image_id = self.source.captions(index), self.source.image_id(index)
        picture = (
            {"image": to_tensor(self.source.image(index), self.preprocess)}
            if self.cache is None
            else {"image_tokens": self.cache.tokens(image_id)}
        )
        references = self.source.references(index)
        texts = {"caption": captions[which % len(captions)], "references": references} if captions else {}
        return {**picture, "image_id": image_id, **texts}


class Collate:
    """Items to a ``CaptionBatch``: token ids in training, references in evaluation (which must not see the target)."""

    def __init__(self, captioner: CaptionerLike, train: bool) -> None:
        self.captioner, self.train = captioner, train

    def __call__(self, items: list[dict[str, Any]]) -> CaptionBatch:
        batch: CaptionBatch = {"image_id": [item["image_id"] for item in items]}
        if "image" in items[0]:
            batch["image"] = torch.stack([item["image"] for item in items])
        else:
            batch["image_tokens"] = torch.stack([item["image_tokens"] for item in items])
        if self.train:
            tokens = self.captioner.tokenize([item["caption"] for item in items])
            batch["input_ids"], batch["attention_mask"] = tokens.input_ids, tokens.attention_mask
        elif "references" in items[0]:  # pictures to be captioned have none
            batch["references"] = [item["references"] for item in items]
            batch["caption"] = [item["caption"] for item in items]
        return batch


class Head(CaptionSource):
    """The first pictures of a source."""

    def __init__(self, source: CaptionSource, limit: int) -> None:
        self.source, self.limit = source, limit

    def __len__(self) -> int:
        return self.limit

    def image_id(self, index: int) -> int | str:
        return self.source.image_id(index)

    def captions(self, index: int) -> list[str]:
        return self.source.captions(index)

    def references(self, index: int) -> list[str]:
        return self.source.references(index)

    def image(self, index: int) -> Any:
        return self.source.image(index)
