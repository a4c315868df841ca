"""How much of what the captions say is true, on data that can tell (``ShapesDataModule``)."""

from __future__ import annotations

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from ladic.errors import UsageError
from ladic.metrics.caption_store import CaptionStore
from ladic.types import CaptionBatch, CaptionOutput


class TruthEvaluation(Callback):
    """Logs ``<split>/wholly_true`` and ``<split>/objects_named``, shares of captions and of objects.

    The datamodule needs a method ``truth(split, image_id, caption)``, as the shapes data has.
    """

    def __init__(self) -> None:
        self.store = CaptionStore()  # by image, not summed: a sampler hands some pictures to two ranks

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not hasattr(trainer.datamodule, "truth"):  # type: ignore[attr-defined]
            raise UsageError("trainer.callbacks: TruthEvaluation needs data that can check captions: ShapesDataModule")

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.store = CaptionStore()

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.store = CaptionStore()

    def on_validation_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: LightningModule, outputs: CaptionOutput, batch: CaptionBatch, *_: Any
    ) -> None:
        self._count(trainer, "val", outputs)

    def on_test_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: LightningModule, outputs: CaptionOutput, batch: CaptionBatch, *_: Any
    ) -> None:
        self._count(trainer, "test", outputs)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(pl_module, "test")

    def _count(self, trainer: Trainer, split: str, outputs: CaptionOutput) -> None:
        ids, captions = outputs["image_id"], outputs["captions"]
        verdicts = [trainer.datamodule.truth(split, *pair) for pair in zip(ids, captions, strict=True)]  # type: ignore[attr-defined]
        counts = [
            {"true": float(one.wholly_true), "named": one.objects_named, "objects": one.objects_total}
            for one in verdicts
        ]
        self.store.add(ids, captions, [[]] * len(captions), counts)

    def _log(self, pl_module: LightningModule, split: str) -> None:
        counts = self.store.gather().numbers.values()
        true, named, objects = (sum(each[name] for each in counts) for name in ("true", "named", "objects"))
        shares = {"wholly_true": true / max(1, len(counts)), "objects_named": named / max(1, objects)}
        # Every rank has gathered the same, so that nothing is averaged over them.
        pl_module.log_dict({f"{split}/{name}": torch.tensor(share) for name, share in shares.items()})
