"""Scores the captions of validation and test, over all ranks, once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from ladic.features import write_json
from ladic.metrics.caption_store import CaptionStore
from ladic.metrics.scoring import score_captions
from ladic.types import CaptionBatch, CaptionOutput


class CaptionEvaluation(Callback):
    """Gathers captions, dedupes them by image id, scores them on rank 0, logs the scores and writes two files.

    Into the run's folder go ``results_<split>.json`` (COCO's results format) and ``scores_<split>.json``.

    Args:
        metrics: families to compute, see ``ladic.metrics.scoring``.
        control: also score every caption against the next image's references, logged with the suffix "_shuffled".
            Captions that speak of their pictures score far above it.
    """

    def __init__(self, metrics: tuple[str, ...] = ("bleu", "cider"), control: bool = False) -> None:
        self.metrics, self.control = tuple(metrics), control
        self.store = CaptionStore()
        self._started = 0.0

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start()

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start()

    def on_validation_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: LightningModule, outputs: CaptionOutput, batch: CaptionBatch, *_: Any
    ) -> None:
        self.store.add(outputs["image_id"], outputs["captions"], batch["references"])

    def on_test_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: LightningModule, outputs: CaptionOutput, batch: CaptionBatch, *_: Any
    ) -> None:
        self.store.add(outputs["image_id"], outputs["captions"], batch["references"])

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._finish(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._finish(trainer, pl_module, "test")

    def _start(self) -> None:
        self.store = CaptionStore()
        self._started = time.perf_counter()

    def _finish(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        seconds = time.perf_counter() - self._started
        gathered = self.store.gather()
        captions, references = gathered.captions, gathered.references
        scores: dict[str, float] = {}
        if trainer.is_global_zero:
            scores = corpus_scores(captions, references, self.metrics)
            if self.control and len(captions) > 1:
                ids = list(captions)
                shifted = {image_id: captions[other] for image_id, other in zip(ids, ids[1:] + ids[:1], strict=True)}
                shuffled = corpus_scores(shifted, references, self.metrics)
                scores |= {f"{name}_shuffled": value for name, value in shuffled.items()}
        scores = trainer.strategy.broadcast(scores)
        # Every rank logs the same numbers: a checkpoint callback looks for its monitor on each of them.
        pl_module.log_dict({f"{split}/{name}": torch.tensor(value) for name, value in scores.items()})
        if trainer.is_global_zero and not trainer.sanity_checking:
            folder = Path(trainer.default_root_dir)
            results = [{"image_id": image_id, "caption": caption} for image_id, caption in captions.items()]
            write_json(folder / f"results_{split}.json", results)
            run = {"images": len(captions), "step": trainer.global_step, "seconds": round(seconds, 2)}
            write_json(folder / f"scores_{split}.json", {"scores": scores, **run})


def corpus_scores(
    captions: dict[Any, str], references: dict[Any, list[str]], metrics: tuple[str, ...]
) -> dict[str, float]:
    """Corpus scores that could be computed; BLEU and CIDEr-D in their natural units, as torch floats log them."""
    corpus = score_captions(captions, references, metrics).corpus
    return {name: value for name, value in corpus.items() if value is not None}
