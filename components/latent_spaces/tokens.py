"""Captions to token ids and back, whatever reads the ids: text latent spaces, and captioners that predict words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ladic.json_files import whole_characters
from ladic.types import TokenBatch


def tokenize(tokenizer: Any, captions: list[str], length: int) -> TokenBatch:
    """Token ids and mask (B, L), cut or padded to ``length``."""
    encoded = tokenizer(
        list(map(whole_characters, captions)),
        padding="max_length",
        truncation=True,
        max_length=length,
        return_tensors="pt",
    )
    return TokenBatch(encoded["input_ids"], encoded["attention_mask"])


def token_lengths(tokenizer: Any, captions: list[str]) -> list[int]:
    """Tokens of each caption, [CLS] and [SEP] included."""
    return [len(ids) for ids in tokenizer(captions, verbose=False)["input_ids"]]


def texts(tokenizer: Any, rows: Iterable[Sequence[int]]) -> list[str]:
    """Captions from rows of token ids: special tokens erased, word pieces joined."""
    return [tokenizer.decode(row, skip_special_tokens=True, clean_up_tokenization_spaces=True).strip() for row in rows]


def index_of(vocabulary: Tensor, ids: Tensor, unknown: int) -> Tensor:
    """Place of each token id in a vocabulary (V,), ascending; ids that it lacks get the place of ``unknown``.

    Example:
        >>> index_of(torch.tensor([1, 4, 9]), torch.tensor([9, 5]), unknown=1).tolist()
        [2, 0]
    """
    index = torch.searchsorted(vocabulary, ids).clamp_max(len(vocabulary) - 1)
    missing = vocabulary[index] != ids
    return torch.where(missing, torch.searchsorted(vocabulary, torch.full_like(ids, unknown)), index)
