"""What every datamodule shares: batches of pictures (or cached tokens) and captions.

The datamodule knows no model. At the start of a run it asks the captioner how pictures are prepared and captions
tokenised, so that both follow the swapped encoder and latent space.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

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

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        return self._loader("test")

    def _loader(self, split: str) -> DataLoader[Any]:
        train = split == "train"
        assert self.captioner is not None
        return DataLoader(
            self._items[split],
            batch_size=self.batch_size if train else self.eval_batch_size,
            shuffle=train,
            drop_last=train and len(self._items[split]) >= self.batch_size,
            num_workers=self.num_workers,
            persistent_workers=train and self.num_workers > 0,
            collate_fn=Collate(self.captioner, train),
        )


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

    def __getitem__(self, item: int) -> dict[str, Any]:
        index, which = (item, None) if self.pairs is None else self.pairs[item]
        captions, image_id = self.source.captions(index), self.source.image_id(index)
        if which is None:
            which = int(torch.randint(len(captions), ()))
        picture = (
            {"image": to_tensor(self.source.image(index), self.preprocess)}
            if self.cache is None
            else {"image_tokens": self.cache.tokens(image_id)}
        )
        return {**picture, "image_id": image_id, "caption": captions[which], "references": captions}


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
        else:
            batch["references"] = [item["references"] for item in items]
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

    def image(self, index: int) -> Any:
        return self.source.image(index)
