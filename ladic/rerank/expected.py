"""Choosing by the words that captions of the picture would have."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from ladic.metrics.functional.ptb_tokenizer import ptb_tokenize_all
from ladic.rerank.bound import EncoderBoundSelector
from ladic.spec import absolute
from ladic.word_shares import WordShares


class ExpectedCiderSelector(EncoderBoundSelector):
    """The candidate with the highest expected CIDEr, from the picture alone.

    CIDEr (Vedantam et al. 2015) with single words is the cosine of a caption's words and a reference's, each weighed by
    its rarity. Here the reference isn't known, but the share p of references that would have a word is, by a ridge
    regression on the image tokens (``ladic.word_shares``):

        score(c) = sum_{w in c} rarity(w)^2 p(w | picture) / sqrt(sum_{w in c} rarity(w)^2)

    Minimum Bayes risk takes the model's other samples for references instead, and can't see what all of them get wrong.

    Args:
        words: file of ``ladic fit-words``.

    Raises:
        UsageError: if there is no such file, or it is none of ours.
    """

    fitted_by = "fit-words"

    def __init__(self, words: str) -> None:
        self.shares = WordShares.load(Path(words))
        self.weights, self.width = words, self.shares.width

    @torch.no_grad()
    def judge(self, candidates: list[list[str]], tokens: Tensor) -> list[list[float]]:
        self.shares = self.shares.to(tokens.device)
        with torch.autocast(tokens.device.type, enabled=False):
            shares = self.shares(tokens).cpu()
        index, squares = self.shares.index, self.shares.rarity.cpu().square()
        gains = (squares * shares).tolist()
        known, unknown = squares.tolist(), self.shares.unknown**2
        scores: list[list[float]] = []
        for row, captions in zip(gains, candidates, strict=True):
            scores.append([])
            for caption in ptb_tokenize_all(captions):
                words = set(caption.split())
                gain = sum(row[index[word]] for word in words if word in index)
                norm = sum(known[index[word]] if word in index else unknown for word in words)
                scores[-1].append(gain / math.sqrt(norm) if norm else 0.0)
        return scores

    def checkpoint_args(self) -> dict[str, str]:
        """The file by its whole path, so that a checkpoint finds it from anywhere."""
        return {"words": str(absolute(self.weights))}
