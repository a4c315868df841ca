"""The words of a captioner that predicts them: which there are, their embeddings, their scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from ladic.errors import UsageError

_KEY = "head.vocabulary"


class WordTable(nn.Module):
    """Embeddings of words on their way in, and scores of the same words on their way out.

    Args:
        width: of the hidden states.
        vocabulary: token ids, ascending, (V,); word i is token ``vocabulary[i]``.
        tied: whether the scores are products with the embeddings (Press & Wolf 2017), or of a matrix of their own.
    """

    def __init__(self, width: int, vocabulary: Tensor, tied: bool = True) -> None:
        super().__init__()
        self.width, self.tied = width, tied
        self._make(vocabulary)

    def embed(self, words: Tensor) -> Tensor:
        """(..., width) of words (...)."""
        return self.embedding(words)

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of hidden states (..., width)."""
        weight = self.embedding.weight if self.output is None else self.output.weight
        return F.linear(hidden, weight, self.bias)

    def _make(self, vocabulary: Tensor) -> None:
        self.register_buffer("vocabulary", vocabulary.clone())
        self.vocabulary: Tensor
        self.embedding = nn.Embedding(len(vocabulary), self.width)
        nn.init.normal_(self.embedding.weight, std=0.02)  # BERT's; larger ones would make wild scores of tied words
        self.bias = nn.Parameter(torch.zeros(len(vocabulary)))
        self.output = None if self.tied else nn.Linear(self.width, len(vocabulary), bias=False)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        # A checkpoint knows its words, fewer or more than these: the table is given their number.
        stored = state_dict.get(prefix + "vocabulary")
        if stored is not None and stored.shape != self.vocabulary.shape:
            self._make(stored.to(self.vocabulary.device))
            self.to(self.vocabulary.device)
        super()._load_from_state_dict(state_dict, prefix, *args)


def read_vocabulary(path: str) -> Tensor:
    """Token ids (V,), ascending, of a file that ``ladic fit-space --restrict-vocabulary`` wrote.

    Raises:
        UsageError: if it is missing or something else.
    """
    if not Path(path).is_file():
        raise UsageError(
            f"vocabulary='{path}': no such file; make it with `ladic fit-space -c CONFIG --restrict-vocabulary "
            f"--output {path}`, CONFIG being that of a latent space with this tokenizer, or give null for all words"
        )
    try:
        with safe_open(path, framework="pt") as file:
            if _KEY in file.keys():  # noqa: SIM118  # the file is no mapping
                found: Tensor = file.get_tensor(_KEY)
                return found
    except (SafetensorError, OSError) as error:
        raise UsageError(f"vocabulary='{path}': can't be read ({error}); give a file of `ladic fit-space`") from error
    raise UsageError(f"vocabulary='{path}': names no words; give a file of `ladic fit-space --restrict-vocabulary`")


def special_words(tokenizer: Any) -> dict[str, int]:
    """Ids of the special tokens that a tokenizer has, by what they are for: "cls", "sep", "pad", "unk", "mask".

    Raises:
        UsageError: if one is missing without which there are no captions.
    """
    ids = {name: getattr(tokenizer, f"{name}_token_id") for name in ("cls", "sep", "pad", "unk", "mask")}
    missing = [f"[{name.upper()}]" for name in ("cls", "sep", "pad", "unk") if ids[name] is None]
    if missing:
        raise UsageError(f"tokenizer: has no {' nor '.join(missing)}; give one of the BERT family")
    return {name: token for name, token in ids.items() if token is not None}
