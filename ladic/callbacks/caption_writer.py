"""Writes what ``ladic predict`` captions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Any

from lightning import Callback, LightningModule, Trainer

from ladic.json_files import write_json
from ladic.metrics.caption_store import CaptionStore
from ladic.metrics.scoring import id_order
from ladic.types import CaptionBatch, CaptionOutput


class CaptionWriter(Callback):
    """``predictions.json`` in the run's folder: captions in COCO's results format, by image id, of all ranks.

    While it goes on, each rank adds its captions to ``predictions.RANK.jsonl``, so that a run that is stopped leaves
    what it had; ``ladic score`` reads that file too. At the end it is removed.
    """

    def __init__(self) -> None:
        self.store = CaptionStore()
        self._part: IO[str] | None = None

    def on_predict_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.store = CaptionStore()
        path = self._path(trainer)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._part = path.open("w", encoding="utf-8")

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: CaptionOutput, batch: CaptionBatch, *_: Any
    ) -> None:
        ids, captions = outputs["image_id"], outputs["captions"]
        self.store.add(ids, captions, [[] for _ in ids])
        assert self._part is not None
        for image_id, caption in zip(ids, captions, strict=True):
            self._part.write(json.dumps({"image_id": image_id, "caption": caption}, ensure_ascii=False) + "\n")
        self._part.flush()

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        captions = self.store.gather().captions
        if trainer.is_global_zero:
            path = Path(trainer.default_root_dir) / "predictions.json"
            write_json(path, [{"image_id": i, "caption": captions[i]} for i in sorted(captions, key=id_order)])
            print(f"wrote {len(captions)} captions to {path}", flush=True)
        self.teardown(trainer, pl_module, "predict")
        self._path(trainer).unlink()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._part is not None:
            self._part.close()
            self._part = None

    @staticmethod
    def _path(trainer: Trainer) -> Path:
        return Path(trainer.default_root_dir) / f"predictions.{trainer.global_rank}.jsonl"
