"""How much of what the captions say is true, on data that can tell (``ShapesDataModule``)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from ladic.errors import UsageError
from ladic.types import CaptionBatch, CaptionOutput


class TruthEvaluation(Callback):
    """Logs ``<split>/wholly_true`` and ``<split>/objects_named``, shares of captions and of objects.

    The datamodule needs a method ``truth(split, image_id, caption)``, as the shapes data has.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not hasattr(trainer.datamodule, "truth"):  # type: ignore[attr-defined]
            raise UsageError("trainer.callbacks: TruthEvaluation needs data that can check captions: ShapesDataModule")

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.counts.clear()

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.counts.clear()

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
        for image_id, caption in zip(outputs["image_id"], outputs["captions"], strict=True):
            verdict = trainer.datamodule.truth(split, image_id, caption)  # type: ignore[attr-defined]
            self.counts.update(
                captions=1, true=verdict.wholly_true, named=verdict.objects_named, objects=verdict.objects_total
            )

    def _log(self, pl_module: LightningModule, split: str) -> None:
        counts = self.counts
        shares = {
            f"{split}/wholly_true": torch.tensor(counts["true"] / max(1, counts["captions"])),
            f"{split}/objects_named": torch.tensor(counts["named"] / max(1, counts["objects"])),
        }
        pl_module.log_dict(shares, sync_dist=True, batch_size=max(1, counts["captions"]))
