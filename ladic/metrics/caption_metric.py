"""What the torchmetrics classes of this package share: captions kept as bytes, scored as one set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from ladic.metrics.caption_store import CaptionStore, from_tensor, record_bytes, to_tensor
from ladic.metrics.scoring import score_captions


class CaptionMetric(Metric):
    """Base of the metrics of generated captions against references.

    The state is bytes, one line per image, joined over processes by torchmetrics; ``compute`` removes the images that
    came twice and scores what is left as one set, so a score doesn't depend on how many processes made the captions.
    A subclass names its entry of ``ladic.metrics.scoring.METRICS`` in ``scorer``.
    """

    is_differentiable = False
    full_state_update = False
    higher_is_better: bool | None = True
    scorer: str
    records: list[Tensor] | Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("records", default=[], dist_reduce_fx="cat")

    def update(
        self, captions: Sequence[str], references: Sequence[Sequence[str]], image_id: Sequence[int | str] | Tensor
    ) -> None:
        """Add a batch: (B) captions, for each its references, and its image id.

        Raises:
            ValueError: when the three have different lengths.
        """
        self._append(captions, references, image_id, [{}] * len(captions))

    def compute(self) -> dict[str, Tensor]:
        """The scores of all captions so far by name, float64; NaN for a score that could not be had."""
        store = self.store()
        scores = score_captions(store.captions, store.references, [self.scorer], **self.options())
        return as_tensors(scores.corpus)

    def options(self) -> dict[str, Any]:
        """Keyword arguments for ``score_captions``."""
        return {}

    def store(self) -> CaptionStore:
        """The captions so far, each image once."""
        store = CaptionStore()
        records = self.records if isinstance(self.records, list) else [self.records]
        for record in records:
            store.update_from_bytes(from_tensor(record))
        return store

    def sync(self, *args: Any, **kwargs: Any) -> None:
        # A process without captions takes part with no bytes: torchmetrics would send a tensor of floats for it.
        if isinstance(self.records, list) and not self.records:
            self.records = [torch.empty(0, dtype=torch.uint8, device=self.device)]
        super().sync(*args, **kwargs)

    def _append(
        self,
        captions: Sequence[str],
        references: Sequence[Sequence[str]],
        image_id: Sequence[int | str] | Tensor,
        numbers: Sequence[dict[str, float]],
    ) -> None:
        if isinstance(captions, str) or not len(image_id) == len(captions) == len(references):
            raise ValueError(
                f"{len(image_id)} image ids, {len(captions)} captions and {len(references)} lists of references: "
                "a batch needs one of each per image"
            )
        rows = zip(image_id, captions, references, numbers, strict=True)
        data = b"".join(record_bytes(*row) for row in rows)
        assert isinstance(self.records, list)
        self.records.append(to_tensor(data).to(self.device))


def as_tensors(scores: dict[str, float | None]) -> dict[str, Tensor]:
    """Numbers as float64 scalars; None as NaN."""
    return {
        name: torch.tensor(math.nan if score is None else score, dtype=torch.float64) for name, score in scores.items()
    }
