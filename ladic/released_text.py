"""Captions as the released LaDiC code makes them from token ids, its fault included."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def released_captions(ids: Tensor, tokenizer: Any) -> list[str]:
    """Captions of token ids (B, L).

    Repeated tokens are meant to go, but ``unique_consecutive`` is called on the whole matrix: a column goes only if it
    equals the one before it in every row. So a caption depends on the batch it is in: alone it loses its repeats, among
    two hundred it keeps nearly all. Then special tokens are spelled out, repeated words dropped, the full stops that
    stand for padding stripped from both ends, and one is added.

    Args:
        ids: (B, L).
        tokenizer: BERT's.

    Example:
        >>> from ladic.testing import tiny_text_space
        >>> space = tiny_text_space()
        >>> dog, stop = space.tokenizer.convert_tokens_to_ids(["dogs", "."])
        >>> released_captions(torch.tensor([[stop, dog, dog, stop]]), space.tokenizer)
        ['dogs.']
    """
    ids = torch.unique_consecutive(ids, dim=-1)
    captions = []
    for row in ids.tolist():
        text = tokenizer.decode(row, skip_special_tokens=False, clean_up_tokenization_spaces=True)
        words = text.split()
        kept = [word for index, word in enumerate(words) if index == 0 or word != words[index - 1]]
        captions.append(" ".join(kept).strip(".").strip() + ".")
    return captions
