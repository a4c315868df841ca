"""Self-CIDEr as a torchmetrics class; the formula is in ``functional/self_cider.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ladic.metrics.caption_metric import CaptionMetric, as_tensors
from ladic.metrics.functional.cider import DocumentFrequencies
from ladic.metrics.functional.mean import mean
from ladic.metrics.functional.ptb_tokenizer import ptb_tokenize
from ladic.metrics.functional.self_cider import self_cider
from ladic.metrics.scoring import id_order


class SelfCIDEr(CaptionMetric):
    """How varied several captions of one image are, "Self-CIDEr", mean over images, in [0, 1].

    Args:
        document_frequencies: which n-grams are rare; of the captions seen if None.
        kwargs: for ``torchmetrics.Metric``.

    Example:
        >>> metric = SelfCIDEr()
        >>> metric.update([["A dog.", "A dog!"], ["Two cats sleep.", "People eat pizza."]], [1, 2])
        >>> round(metric.compute()["Self-CIDEr"].item(), 4)
        0.5
    """

    def __init__(self, document_frequencies: DocumentFrequencies | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.document_frequencies = document_frequencies

    def update(  # type: ignore[override]
        self, candidates: Sequence[Sequence[str]], image_id: Sequence[int | str] | Tensor
    ) -> None:
        """Add a batch: for each image its two or more captions, and its id."""
        self._append([""] * len(candidates), candidates, image_id, [{}] * len(candidates))

    def compute(self) -> dict[str, Tensor]:
        sets = self.store().references
        tokens = [[ptb_tokenize(text) for text in sets[i]] for i in sorted(sets, key=id_order)]
        return as_tensors({"Self-CIDEr": mean(self_cider(tokens, self.document_frequencies))})
