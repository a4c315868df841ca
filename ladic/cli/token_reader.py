"""Image tokens of a split for commands that fit something on them: out of the feature cache, or through the encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


class TokenReader:
    """Image tokens and captions of a split by row: out of the feature cache, or through the encoder.

    Broken training pictures are left out as in training, up to ``data.skip_broken``.
    """

    def __init__(self, datamodule: Any, encoder: Any, split: str) -> None:
        from ladic.datamodules.broken import without_broken
        from ladic.features import FeatureCache, fingerprint

        self.source, self.encoder, self.split = datamodule.split(split), encoder, split
        self.cache = None
        known = None
        if datamodule.features is not None:
            self.cache = FeatureCache(datamodule.features, split)
            ids = [self.source.image_id(index) for index in range(len(self.source))]
            self.cache.check(fingerprint(encoder, encoder.preprocess), ids)
            known = self.cache.broken
        if split == "train" and (datamodule.skip_broken or known):
            self.source = without_broken(self.source, datamodule.skip_broken, None, known)

    def __len__(self) -> int:
        return len(self.source)

    def captions(self, row: int) -> list[str]:
        """All captions of a picture."""
        captions: list[str] = self.source.captions(row)
        return captions

    def tokens(self, rows: list[int]) -> Tensor:
        """(B, N, C) float32."""
        import torch

        from ladic.datamodules.transforms import to_tensor

        if self.cache is not None:
            return torch.stack([self.cache.tokens(self.source.image_id(row)) for row in rows]).float()
        images = torch.stack([to_tensor(self.source.image(row), self.encoder.preprocess) for row in rows])
        with torch.inference_mode():
            return self.encoder(images).float().clone()

    def pooled(self, batch_size: int) -> tuple[Tensor, list[list[str]]]:
        """``expected_ngrams.pooled`` of every picture, (n, C), and their captions as tokens; tells of each tenth."""
        import torch

        from ladic.expected_ngrams import pooled
        from ladic.metrics.functional.ptb_tokenizer import ptb_tokenize_all

        rows, features, tenths = range(len(self)), [], 0
        for start in range(0, len(self), batch_size):
            features.append(pooled(self.tokens(list(rows[start : start + batch_size]))))
            done = min(start + batch_size, len(self))
            if 10 * done // len(self) > tenths:
                tenths = 10 * done // len(self)
                print(f"  {self.split}: {done}/{len(self)} pictures", flush=True)
        return torch.cat(features), [ptb_tokenize_all(self.captions(row)) for row in rows]
