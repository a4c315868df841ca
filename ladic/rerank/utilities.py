"""Utilities of minimum Bayes risk: how good one caption is if another is the truth."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from pathlib import Path
from typing import Any

from ladic.errors import UsageError
from ladic.spec import Buildable, absolute

Grams = list[Counter[tuple[str, ...]]]


class Utility(Buildable, ABC):
    """Compares the candidates of an image with each other."""

    @abstractmethod
    def pairwise(self, captions: list[str]) -> list[list[float]]:
        """``[i][j]``: how good caption i is if caption j is the truth; the diagonal is not used."""


class BleuUtility(Utility):
    """Sentence BLEU with add-one smoothing above single words (Lin & Och 2004), on words between spaces.

    Args:
        max_order: longest n-gram counted.

    Example:
        >>> [round(value, 3) for value in BleuUtility().pairwise(["a dog runs", "a dog"])[1]]
        [0.607, 1.0]
    """

    def __init__(self, max_order: int = 4) -> None:
        if max_order < 1:
            raise UsageError(f"max_order={max_order}: n-grams have at least one word")
        self.max_order = max_order

    def pairwise(self, captions: list[str]) -> list[list[float]]:
        words = [caption.split() for caption in captions]
        grams = [self._ngrams(tokens) for tokens in words]
        many = range(len(captions))
        return [[self._bleu(len(words[i]), len(words[j]), grams[i], grams[j]) for j in many] for i in many]

    def _ngrams(self, tokens: list[str]) -> Grams:
        orders = range(1, self.max_order + 1)
        return [Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)) for n in orders]

    def _bleu(self, length: int, other_length: int, own: Grams, others: Grams) -> float:
        if not length or not other_length:
            return 0.0
        logs = 0.0
        for order, (mine, theirs) in enumerate(zip(own, others, strict=True)):
            smooth = 1 if order else 0
            matched = (mine & theirs).total() + smooth
            if not matched:
                return 0.0
            logs += math.log(matched / (mine.total() + smooth))
        return math.exp(logs / self.max_order + min(0.0, 1 - other_length / length))


class CiderUtility(Utility):
    """CIDEr-D, n-grams weighed by their rarity in training captions: agreeing on "a" is worth nothing.

    Args:
        frequencies: file from ``ladic fit-frequencies``.

    Raises:
        UsageError: if there is no such file, or it is none of ours.
    """

    def __init__(self, frequencies: str) -> None:
        from ladic.metrics.functional.cider import DocumentFrequencies

        if not Path(frequencies).is_file():
            raise UsageError(
                f"frequencies='{frequencies}': no such file; `ladic fit-frequencies -c CONFIG --output FILE` makes one"
            )
        try:
            self.table = DocumentFrequencies.load(frequencies)
        except (ValueError, OSError) as error:
            raise UsageError(
                f"frequencies='{frequencies}': none of `ladic fit-frequencies` ({error}); make it again"
            ) from error

    def checkpoint_args(self) -> dict[str, str]:
        """The file by its whole path, so that a checkpoint finds it from anywhere."""
        return {"frequencies": str(absolute(self.__dict__["_init_args"]["frequencies"]))}

    def pairwise(self, captions: list[str]) -> list[list[float]]:
        from ladic.metrics.functional.cider import cider_d
        from ladic.metrics.functional.ptb_tokenizer import ptb_tokenize_all

        tokens = ptb_tokenize_all(captions)
        unique = list(dict.fromkeys(tokens))
        pairs = [(a, b) for a in unique for b in unique]
        scores = cider_d([a for a, _ in pairs], [[b] for _, b in pairs], self.table).per_image
        known = dict(zip(pairs, scores.tolist(), strict=True))
        return [[known[a, b] for b in tokens] for a in tokens]


class BertUtility(Utility):
    """F of BERTScore (Zhang et al. 2020, §3): words compared by their contextual embeddings.

    Args:
        model: hub name, local folder, or "package:NAME/FOLDER" inside an installed package.
        layer: whose output is compared; 17 is right for roberta-large alone.
        device: where it runs.

    Raises:
        UsageError: if the model can't be had or has no such layer.
    """

    def __init__(self, model: str = "roberta-large", layer: int | None = None, device: str = "cpu") -> None:
        from ladic.components.latent_spaces.backbone import locate
        from ladic.metrics.bert_embedder import BertEmbedder
        from ladic.metrics.functional.jars import Unavailable

        try:
            self.embedder = BertEmbedder(locate(model), layer, device)
        except (Unavailable, ValueError) as error:
            raise UsageError(f"BertUtility: {error}") from error

    def checkpoint_args(self) -> dict[str, Any]:
        """A folder by its whole path, so that a checkpoint finds it from anywhere."""
        arguments = super().checkpoint_args()
        return {**arguments, "model": absolute(arguments["model"])}

    def pairwise(self, captions: list[str]) -> list[list[float]]:
        from ladic.metrics.functional.bert_score import bert_score

        embedded = self.embedder.embed(captions)
        unique = list(dict.fromkeys(captions))
        known = {(a, b): bert_score(embedded[a], [embedded[b]])[2] for a in unique for b in unique}
        return [[known[a, b] for b in captions] for a in captions]
