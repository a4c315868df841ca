"""A trigram model of captions, in token ids: how likely a word is behind the two before it.

Contexts are interpolated with Witten and Bell's weights (1991, "method C"), which need no tuning. Where a context was
followed n times by t different words,

    p(w | u v) = (count(u v w) + t p(w | v)) / (n + t),      p(w | v) likewise,      p(w) = (count(w) + 1) / (N + W + 1)

with N words counted, W of them different: what a context was followed by in many ways leaves more to the shorter one.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ladic.errors import UsageError

BASE = 2**20
"""Above every token id, so that three of them make one int64 key."""

NAMES = tuple(f"{size}.{part}" for size in ("words", "pairs", "triples") for part in ("keys", "counts"))


class TrigramModel:
    """Words, pairs and triples that were counted, each table sorted by key.

    Args:
        tables: ``NAMES``: keys (M,) and counts (M,) of each size. The key of words in a row is the last one's id plus
            BASE times the key of what stands before it.
    """

    def __init__(self, tables: dict[str, Tensor]) -> None:
        self.tables = {name: tables[name].long() for name in NAMES}
        self.total = int(self.tables["words.counts"].sum())
        self._contexts = {size: _contexts(*self._table(size)) for size in ("pairs", "triples")}

    @classmethod
    def count(cls, captions: Tensor, lengths: Tensor) -> TrigramModel:
        """Counts captions.

        Args:
            captions: (R, L) token ids, each with [CLS] before its words and [SEP] behind, which is counted as a word.
            lengths: (R,) tokens of each, both included; what lies beyond is padding.

        Example:
            >>> model = TrigramModel.count(torch.tensor([[1, 7, 8, 2], [1, 7, 2, 0]]), torch.tensor([4, 3]))
            >>> begin, dog, end = torch.tensor([1, 7, 2])
            >>> model.log_prob(begin, begin, dog).exp(), model.log_prob(begin, dog, end).exp()
            (tensor(0.9259), tensor(0.4583))
        """
        wide = torch.cat([captions[:, :1], captions], dim=1)  # the first word stands behind [CLS] twice
        inside = torch.arange(2, wide.shape[1]) <= lengths.unsqueeze(1)
        rows = (wide[:, :-2][inside], wide[:, 1:-1][inside], wide[:, 2:][inside])
        tables = [keys.unique(return_counts=True) for keys in _keys(*rows)]
        return cls(dict(zip(NAMES, (tensor for pair in tables for tensor in pair), strict=True)))

    def log_prob(self, first: Tensor, second: Tensor, third: Tensor) -> Tensor:
        """Log-probability, in float32, of ``third`` behind ``first`` and ``second``, token ids of one shape or more."""
        words, pairs, triples = _keys(*torch.broadcast_tensors(first, second, third))
        seen = len(self.tables["words.keys"])
        shorter = (_found(words, *self._table("words")) + 1.0) / (self.total + seen + 1)
        for size, keys in (("pairs", pairs), ("triples", triples)):
            contexts, counts, different = self._contexts[size]
            n, t = (_found(keys // BASE, contexts, values) for values in (counts, different))
            longer = (_found(keys, *self._table(size)) + t * shorter) / (n + t).clamp_min(1)
            shorter = torch.where(n > 0, longer, shorter)
        return shorter.log()

    def to(self, device: torch.device) -> TrigramModel:
        """The same on a device."""
        if self.tables["words.keys"].device == device:
            return self
        return TrigramModel({name: table.to(device) for name, table in self.tables.items()})

    def save(self, path: Path) -> None:
        """Writes a safetensors file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(self.tables, path)

    @classmethod
    def load(cls, path: str) -> TrigramModel:
        """Reads what ``save`` wrote.

        Raises:
            UsageError: if the file is missing or another one.
        """
        again = "`ladic fit-ngrams -c CONFIG --output FILE` makes one"
        if not Path(path).is_file():
            raise UsageError(f"ngrams='{path}': no such file; {again}")
        try:
            return cls(load_file(path))
        except (SafetensorError, KeyError) as error:
            raise UsageError(f"ngrams='{path}': none of `ladic fit-ngrams` ({error}); {again}") from error

    def _table(self, size: str) -> tuple[Tensor, Tensor]:
        return self.tables[f"{size}.keys"], self.tables[f"{size}.counts"]


def _keys(first: Tensor, second: Tensor, third: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of one word, of two in a row and of three."""
    return third, second * BASE + third, (first * BASE + second) * BASE + third


def _contexts(keys: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Contexts (C,), ascending, how often each was gone on from, and in how many ways."""
    contexts, place, different = (keys // BASE).unique(return_inverse=True, return_counts=True)
    return contexts, torch.zeros_like(contexts).scatter_add_(0, place, counts), different


def _found(keys: Tensor, table: Tensor, values: Tensor) -> Tensor:
    """The value of each key, in float32, 0 where the table has none."""
    place = torch.searchsorted(table, keys.contiguous()).clamp_max(len(table) - 1)
    return torch.where(table[place] == keys, values[place], 0).float()
