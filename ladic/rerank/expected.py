"""Choosing by the words, and words in a row, that captions of the picture would have."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ladic.expected_ngrams import ExpectedNgrams
from ladic.metrics.functional.ptb_tokenizer import ptb_tokenize_all
from ladic.rerank.bound import EncoderBoundSelector
from ladic.spec import absolute


class ExpectedCiderSelector(EncoderBoundSelector):
    """The candidate with the highest expected CIDEr-D, its penalty of lengths included, from the picture alone.

    CIDEr (Vedantam et al. 2015) is the mean over references of the cosine of a caption's n-grams and theirs, each
    weighed by its rarity. Here the references are not known. The mean of their unit vectors is estimated by a ridge
    regression on the image tokens (``ladic.expected_ngrams``), and the mean of cosines is linear in it.

    Minimum Bayes risk takes the model's other samples for references instead, and can't see what all of them get wrong.

    Args:
        words: file of ``ladic fit-words``.

    Raises:
        UsageError: if there is no such file, or it is none of ours.
    """

    fitted_by = "fit-words"

    def __init__(self, words: str) -> None:
        self.ngrams = ExpectedNgrams.load(Path(words))
        self.weights, self.width = words, self.ngrams.width

    @torch.no_grad()
    def judge(self, candidates: list[list[str]], tokens: Tensor) -> list[list[float]]:
        self.ngrams = self.ngrams.to(tokens.device)
        with torch.autocast(tokens.device.type, enabled=False):
            expected = self.ngrams(tokens).tolist()
        return [
            [self.ngrams.score(row, caption) for caption in ptb_tokenize_all(captions)]
            for row, captions in zip(expected, candidates, strict=True)
        ]

    def checkpoint_args(self) -> dict[str, str]:
        """The file by its whole path, so that a checkpoint finds it from anywhere."""
        return {"words": str(absolute(self.weights))}
