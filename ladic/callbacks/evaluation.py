"""Scores the captions of validation and test, over all ranks, once."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from ladic.errors import UsageError
from ladic.json_files import write_json
from ladic.metrics.caption_store import CaptionStore
from ladic.metrics.scoring import METRICS, Scores, id_order, score_captions
from ladic.types import CaptionBatch, CaptionOutput

TEST_METRICS = ("bleu", "rouge", "cider", "meteor", "length", "repetition", "distinct")
LIBRARIES = ("ladic", "torch", "lightning", "transformers", "numpy")
_LONG = 200  # characters above which a text in the configuration (a vocabulary) is given by its hash


class CaptionEvaluation(Callback):
    """Gathers captions, dedupes them by image id, scores them on rank 0, logs the scores and writes four files.

    Into the run's folder go, with "val" or "test" for the split:

    - ``results_<split>.json``: the captions, in COCO's results format;
    - ``references_<split>.json``: what they are scored against, for ``ladic score``;
    - ``per_image_<split>.json``: for each image its caption and the metrics that score single images;
    - ``scores_<split>.json``: the scores of the whole set and how they came about.

    A metric that can't be had on this machine (METEOR without Java) is null there, with the reason beside it.

    Args:
        metrics: families to compute in validation, see ``ladic.metrics.scoring``.
        test_metrics: families to compute in test.
        control: also score every caption against the next image's references, logged with the suffix "_shuffled", in
            the families of ``metrics``. Captions that speak of their pictures score far above it.

    Raises:
        UsageError: for an unknown family.
    """

    def __init__(
        self,
        metrics: tuple[str, ...] = ("bleu", "cider"),
        test_metrics: tuple[str, ...] = TEST_METRICS,
        control: bool = False,
    ) -> None:
        self.metrics = {"val": tuple(metrics), "test": tuple(test_metrics)}
        self.control_metrics = tuple(metrics) if control else ()
        for option, names in (("metrics", metrics), ("test_metrics", test_metrics)):
            unknown = [name for name in names if name not in METRICS]
            if unknown or not names:
                wrong = f"no metric called '{unknown[0]}'" if unknown else "none given"
                raise UsageError(f"CaptionEvaluation.{option}: {wrong}; there are {', '.join(METRICS)}")
        self.store = CaptionStore()
        self._started = 0.0

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start()

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start()

    def on_validation_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: LightningModule, outputs: CaptionOutput, batch: CaptionBatch, *_: Any
    ) -> None:
        self._add(outputs, batch)

    def on_test_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: LightningModule, outputs: CaptionOutput, batch: CaptionBatch, *_: Any
    ) -> None:
        self._add(outputs, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._finish(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._finish(trainer, pl_module, "test")

    def _start(self) -> None:
        self.store = CaptionStore()
        self._started = time.perf_counter()

    def _add(self, outputs: CaptionOutput, batch: CaptionBatch) -> None:
        images = len(outputs["captions"])
        nfe = outputs["nfe"] if isinstance(outputs["nfe"], list) else [outputs["nfe"]] * images
        chosen = outputs.get("selection_nfe", [0] * images)
        spent = [{"nfe": float(each), "selection_nfe": float(count)} for each, count in zip(nfe, chosen, strict=True)]
        self.store.add(outputs["image_id"], outputs["captions"], batch["references"], spent)

    def _finish(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        gathered = self.store.gather()
        seconds = time.perf_counter() - self._started
        outcome: dict[str, Any] = {}
        failure: Exception | None = None
        if trainer.is_global_zero:
            # Whatever goes wrong here, the other ranks are waiting in the broadcast below and have to be told.
            try:
                outcome["scores"] = self._score_and_write(trainer, pl_module, split, gathered, seconds)
            except Exception as error:
                failure = error
                outcome |= {"error": f"{type(error).__name__}: {error}", "usage": isinstance(error, UsageError)}
        outcome = trainer.strategy.broadcast(outcome)
        if failure is not None:
            raise failure
        if "error" in outcome:
            kind = UsageError if outcome["usage"] else RuntimeError
            raise kind(f"scoring failed on rank 0: {outcome['error']}")
        # Every rank logs the same numbers: a checkpoint callback looks for its monitor on each of them.
        pl_module.log_dict({f"{split}/{name}": torch.tensor(value) for name, value in outcome["scores"].items()})

    def _score_and_write(
        self, trainer: Trainer, pl_module: LightningModule, split: str, gathered: CaptionStore, seconds: float
    ) -> dict[str, float]:
        """The scores that could be had; for rank 0."""
        folder = Path(trainer.default_root_dir)
        # In the order of their ids: the files, and whose neighbour the control takes, don't depend on the ranks.
        captions = {i: gathered.captions[i] for i in sorted(gathered.captions, key=id_order)}
        write = write_json if not trainer.sanity_checking else lambda *_: None
        # First of all: captions are what took the time, and `ladic score` can score them later.
        write(folder / f"results_{split}.json", [{"image_id": i, "caption": c} for i, c in captions.items()])
        write(folder / f"references_{split}.json", {str(i): gathered.references[i] for i in captions})
        started = time.perf_counter()
        scores = score_captions(captions, gathered.references, self.metrics[split])
        corpus = {**scores.corpus, **self._control(captions, gathered.references)}
        scoring = time.perf_counter() - started
        rows = [{"image_id": i, "caption": captions[i], "scores": scores.per_image[i]} for i in captions]
        write(folder / f"per_image_{split}.json", rows)
        write(
            folder / f"scores_{split}.json",
            {
                "scores": corpus,
                "unavailable": scores.unavailable,
                "tokenizer": scores.tokenizer,
                "split": split,
                "images": len(captions),
                # Outside training, trainer.global_step stays 0 whatever was loaded.
                "step": trainer.global_step if trainer.state.fn == "fit" else getattr(pl_module, "loaded_step", 0),
                # Of one candidate (of a beam, one of its rows), and for choosing among all of an image.
                **{
                    name: _mean([numbers[name] for numbers in gathered.numbers.values()])
                    for name in ("nfe", "selection_nfe")
                },
                "seconds": round(seconds, 3),
                "seconds_per_image": round(seconds / len(captions), 6),
                "scoring_seconds": round(scoring, 3),
                "processes": trainer.world_size,
                **provenance(trainer, pl_module),
            },
        )
        return {name: value for name, value in corpus.items() if value is not None}

    def _control(self, captions: dict[Any, str], references: dict[Any, list[str]]) -> dict[str, float | None]:
        if not self.control_metrics or len(captions) < 2:
            return {}
        ids = list(captions)
        shifted = {image_id: captions[other] for image_id, other in zip(ids, ids[1:] + ids[:1], strict=True)}
        shuffled: Scores = score_captions(shifted, references, self.control_metrics)
        return {f"{name}_shuffled": value for name, value in shuffled.corpus.items()}


def provenance(trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
    """What the captions depend on: seeds, the model's parts and settings, the checkpoint's hash, versions."""
    description = getattr(pl_module, "description", None)
    config = _shortened(description()) if callable(description) else {}
    global_seed = os.environ.get("PL_GLOBAL_SEED")
    return {
        "seeds": {
            "noise": getattr(pl_module, "seed", None),
            "seed_everything": int(global_seed) if global_seed is not None else None,
        },
        "sampler": config.get("components", {}).get("sampler"),
        "guidance": config.get("guidance"),
        "num_candidates": getattr(pl_module, "num_candidates", None),
        "rows": getattr(pl_module, "rows", None),
        "training": _training(pl_module),
        "eval_batch_size": getattr(getattr(trainer, "datamodule", None), "eval_batch_size", None),
        "parameters": {
            "trained": sum(each.numel() for each in pl_module.parameters() if each.requires_grad),
            "all": sum(each.numel() for each in pl_module.parameters()),
        },
        "precision": str(trainer.precision),
        "config": config,
        "checkpoint": checkpoint_of(trainer),
        "versions": {name: _version(name) for name in LIBRARIES},
    }


def _training(pl_module: LightningModule) -> dict[str, Any] | None:
    """How long, with what batch and in what precision the weights were trained, as far as they tell."""
    facts = getattr(pl_module, "training_facts", None)
    if not callable(facts):
        return None
    told = facts()
    return {name: told.get(name) for name in ("steps", "minutes", "global_batch", "precision")}


def checkpoint_of(trainer: Trainer) -> dict[str, str | None] | None:
    """Path and sha256 of the file the weights came from; None in training, where they have moved on from it."""
    if trainer.state.fn == "fit" or not trainer.ckpt_path:
        return None
    path = Path(str(trainer.ckpt_path))
    if not path.is_file():  # a sharded checkpoint is a folder
        return {"path": str(path), "sha256": None}
    with path.open("rb") as file:
        return {"path": str(path), "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _mean(counts: Sequence[float]) -> float:
    """Their mean, an int where it is whole."""
    mean = sum(counts) / len(counts)
    return int(mean) if mean.is_integer() else mean


def _shortened(value: Any) -> Any:
    """The same with long texts, such as a whole vocabulary, given by their hash."""
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shortened(item) for item in value]
    if isinstance(value, str) and len(value) > _LONG:
        return f"sha256:{hashlib.sha256(value.encode()).hexdigest()} ({len(value)} characters)"
    return value


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
