"""What every datamodule shares: batches of pictures (or cached tokens) and captions.

The datamodule knows no model. At the start of a run it asks the captioner how pictures are prepared and captions
tokenised, so that both follow the swapped encoder and latent space.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from ladic.datamodules.broken import without_broken
from ladic.datamodules.images import BrokenImageError
from ladic.datamodules.items import Collate, EvaluationItems, TrainingItems
from ladic.datamodules.order import ByLength, ResumableLoader, TrainingOrder
from ladic.datamodules.source import CaptionSource
from ladic.datamodules.subset import Subset
from ladic.datamodules.transforms import AUGMENTS, Augment, to_tensor
from ladic.errors import UsageError
from ladic.features import FeatureCache
from ladic.spec import Buildable
from ladic.types import CaptionerLike

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
        augment: "crop" trains on random crops, "crop-flip" also on mirrored ones where no caption tells left from
            right; with ``features``, on the views that were cached with the same.
        group_by_length: batches of captions of like length (with unit "caption").
        skip_broken: share of the training pictures that may be broken and are then left out; with more than 0 every
            picture is read once before training. By default the first broken picture stops the run.
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
        augment: Augment = "none",
        group_by_length: bool = False,
        skip_broken: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = {"batch_size": batch_size, "eval_batch_size": eval_batch_size}
        for name, value in {**sizes, "limit_train": limit_train, "limit_eval": limit_eval}.items():
            if value is not None and value < 1:
                raise UsageError(f"data.{name}={value}: need at least 1")
        if num_workers < 0:
            raise UsageError(f"data.num_workers={num_workers}: need at least 0, which loads in the process itself")
        if unit not in ("caption", "image"):
            raise UsageError(f"data.unit='{unit}': accepted are 'caption' and 'image'")
        if augment not in AUGMENTS:
            raise UsageError(f"data.augment='{augment}': accepted are {', '.join(AUGMENTS)}")
        if not 0 <= skip_broken < 1:
            raise UsageError(f"data.skip_broken={skip_broken}: a share of the pictures, from 0 to below 1")
        if group_by_length and unit != "caption":
            raise UsageError(
                "data.group_by_length=true: with unit 'image' a caption is drawn, so give data.unit=caption"
            )
        self.batch_size, self.eval_batch_size, self.num_workers = batch_size, eval_batch_size, num_workers
        self.unit, self.features = unit, features
        self.limit_train, self.limit_eval = limit_train, limit_eval
        self.augment: Augment = augment
        self.group_by_length, self.skip_broken = group_by_length, skip_broken
        self.captioner: CaptionerLike | None = None
        self._training: TrainingItems | None = None
        self._evaluation: dict[str, EvaluationItems] = {}
        self._order: dict[str, int] = {}  # seed and sizes that the order of training follows, as in the checkpoint

    @abstractmethod
    def source(self, split: str) -> CaptionSource:
        """Pictures and captions of "train", "val" or "test"."""

    def split(self, name: str) -> CaptionSource:
        """``source``, cut to ``limit_train`` or ``limit_eval``."""
        source, limit = self.source(name), self.limit_train if name == "train" else self.limit_eval
        return source if limit is None or limit >= len(source) else Subset(source, range(limit))

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
            if name == "train":
                self._training = self._training_items(self.captioner)
            else:
                source = self.split(name)
                cache = self._cache(name, source)
                self._evaluation[name] = EvaluationItems(self._to_evaluate(source, cache), self.captioner, cache)

    def _to_evaluate(self, source: CaptionSource, cache: FeatureCache | None) -> CaptionSource:
        """Pictures to evaluate on: all of them, or scores would not be those of the split."""
        return source

    def _training_items(self, captioner: CaptionerLike) -> TrainingItems:
        source = self.split("train")
        cache = self._cache("train", source)
        known = None if cache is None else cache.broken
        if self.skip_broken or known:
            source = without_broken(source, self.skip_broken, self._run_folder(), known)
        items = TrainingItems(source, captioner, self.unit == "caption", cache, self.augment)
        rank_zero = self.trainer is None or self.trainer.is_global_zero
        if items.tokens is not None and items.tokens.cut and rank_zero:
            cut, count = items.tokens.cut, len(items.tokens)
            warnings.warn(
                f"{cut} of {count} training captions ({100 * cut / count:.3g} %) are longer than the latent space's "
                f"{items.tokens.length} tokens and are cut, the longest has {items.tokens.longest}; "
                "--model.latent_space.length sets it",
                stacklevel=2,
            )
        return items

    def _run_folder(self) -> Path | None:
        return None if self.trainer is None else Path(self.trainer.default_root_dir)

    def _cache(self, split: str, source: CaptionSource) -> FeatureCache | None:
        if self.features is None:
            return None
        assert self.captioner is not None
        cache = FeatureCache(self.features, split)
        ids = [source.image_id(index) for index in range(len(source))]
        cache.check(self.captioner.encoder_fingerprint(), ids)
        if split == "train":
            cache.check_views(self.augment)
        self._check_sample(cache, source, ids)
        return cache

    def _check_sample(self, cache: FeatureCache, source: CaptionSource, ids: list[int | str]) -> None:
        """Encodes a few pictures again; where only the cache was brought along, that can't be done and is told."""
        captioner = self.captioner
        assert captioner is not None

        def encode(index: int) -> Tensor:
            image = to_tensor(source.image(index), captioner.preprocess).unsqueeze(0)
            with torch.inference_mode():
                return captioner.image_tokens({"image_id": [ids[index]], "image": image.to(captioner.device)})[0]

        try:
            cache.check_sample(ids, encode)
        except BrokenImageError as error:
            warnings.warn(f"data.features='{self.features}': no sample was encoded again: {error}", stacklevel=2)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on in the same order: the seed, and the sizes to compare with."""
        return dict(self._order)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._order = dict(state_dict)

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches in an order that follows from seed, epoch and step; it begins where the trainer's run goes on."""
        assert self.captioner is not None
        assert self._training is not None
        items = self._training
        order = self._training_order(len(items))
        return ResumableLoader(
            items,
            batch_size=self.batch_size,
            sampler=order,
            drop_last=len(order) >= self.batch_size,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=Collate(self.captioner, items.tokens),
        )

    def _training_order(self, num_items: int) -> TrainingOrder:
        trainer, seed = self.trainer, self._shared_seed()
        rank, world = (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
        arrange = ByLength(self._lengths()) if self.group_by_length else None
        order = TrainingOrder(num_items, self.batch_size, seed, rank, world, arrange)
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

    def _shared_seed(self) -> int:
        """The seed that a checkpoint brought; at first the one that `seed_everything` left, of rank 0."""
        if "seed" in self._order:
            return self._order["seed"]
        seed = torch.initial_seed() % 2**63
        return seed if self.trainer is None else self.trainer.strategy.broadcast(seed)

    def _lengths(self) -> Tensor:
        """(N,) tokens of each training caption."""
        assert self._training is not None
        if self._training.tokens is None:
            raise UsageError("data.group_by_length=true: these captions are made on the fly and have no lengths yet")
        return self._training.tokens.lengths

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        return self._loader("test")

    def _loader(self, split: str) -> DataLoader[Any]:
        assert self.captioner is not None
        return DataLoader(
            self._evaluation[split],
            batch_size=self.eval_batch_size,
            num_workers=self.num_workers,
            collate_fn=Collate(self.captioner),
        )


def position(trainer: Any, batches_per_epoch: int) -> tuple[int, int]:
    """Epoch and batches of it that a trainer has behind it; those of the checkpoint where it resumes from one.

    Args:
        trainer: whose ``limit_train_batches`` may end an epoch early.
        batches_per_epoch: that its loader has.
    """
    limit = trainer.limit_train_batches
    batches_per_epoch = min(batches_per_epoch, limit) if isinstance(limit, int) else int(batches_per_epoch * limit)
    epochs, batches = trainer.fit_loop.epoch_progress.current, trainer.fit_loop.epoch_loop.batch_progress.current
    # "processed" is set before the hooks that save checkpoints, "completed" only after them.
    if epochs.ready == epochs.processed:
        return epochs.processed, 0
    whole = batches.processed >= batches_per_epoch
    return (epochs.processed + 1, 0) if whole else (epochs.processed, batches.processed)
