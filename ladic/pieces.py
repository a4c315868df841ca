"""Word pieces in WordPiece's notation, whatever the tokenizer: "##" goes on with a word, everything else begins one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def pieces(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Tokens of ids; byte-level ones ("Ġdog" begins a word, "dog" goes on) as "dog" and "##dog".

    Example:
        >>> from ladic.testing import tiny_text_space
        >>> pieces(tiny_text_space().tokenizer, [6, 19])
        ['a', '##a']
    """
    tokens: list[str] = tokenizer.convert_ids_to_tokens(list(ids))
    if "\u0120a" not in tokenizer.get_vocab():
        return tokens
    special = set(tokenizer.all_special_tokens)
    return [t if t in special else t[1:] if t.startswith("\u0120") else f"##{t}" for t in tokens]
