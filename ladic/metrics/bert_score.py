"""BERTScore as a torchmetrics class; the formula is in ``functional/bert_score.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from ladic.metrics.bert_embedder import BertEmbedder
from ladic.metrics.caption_metric import CaptionMetric, as_tensors
from ladic.metrics.functional.mean import mean


class BERTScore(CaptionMetric):
    """Mean over images of the best P, R and F over the references, "BERTScore-P", "BERTScore-R", "BERTScore-F".

    Args:
        model: a name on the Hugging Face hub or a local folder.
        num_layers: the layer compared; 17 for roberta-large if None.
        kwargs: for ``torchmetrics.Metric``.

    Raises:
        Unavailable: from ``compute``, when the model can't be had.
    """

    def __init__(self, model: str | Path = "roberta-large", num_layers: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.num_layers = num_layers

    def compute(self) -> dict[str, Tensor]:
        store = self.store()
        embedder = BertEmbedder(self.model, self.num_layers, self.device)
        scores = embedder.score(list(store.captions.values()), list(store.references.values()))
        return as_tensors({f"BERTScore-{name}": mean(scores[:, i]) for i, name in enumerate("PRF")})
