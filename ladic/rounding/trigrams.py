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
from safetensors.torch import load_file, save
from torch import Tensor

from ladic.errors import UsageError
from ladic.json_files import write_whole
from ladic.rounding.key_table import KeyTable

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
        words, total = self._table("words"), int(self.tables["words.counts"].sum())
        # Of single words as rows of all ids, the last for those that were never seen.
        self._alone = (_by_id(*words) + 1.0) / (total + len(words[0]) + 1)
        contexts, counts, different = _contexts(*self._table("pairs"))
        self._behind = _by_id(contexts, counts), _by_id(contexts, different)
        self._pairs, self._triples = KeyTable(*self._table("pairs")), KeyTable(*self._table("triples"))
        contexts, counts, different = _contexts(*self._table("triples"))
        self._behind_two = KeyTable(contexts, counts), KeyTable(contexts, different)

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
        """Log-probability, in float32, of ``third`` behind ``first`` and ``second``.

        Args:
            first, second, third: token ids whose shapes can be broadcast. A context, say (B, 1), is looked up once for
                all words (B, K) behind it.
        """
        behind = first * BASE + second
        n, t = (_of(table, second) for table in self._behind)
        shorter = _mixed(self._pairs(second * BASE + third), n, t, _of(self._alone, third))
        n, t = (table(behind) for table in self._behind_two)
        return _mixed(self._triples(behind * BASE + third), n, t, shorter).log()

    def to(self, device: torch.device) -> TrigramModel:
        """The same on a device."""
        if self.tables["words.keys"].device == device:
            return self
        return TrigramModel({name: table.to(device) for name, table in self.tables.items()})

    def save(self, path: Path) -> None:
        """Writes a safetensors file."""
        write_whole(path, save(self.tables))

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


def _mixed(count: Tensor, n: Tensor, t: Tensor, shorter: Tensor) -> Tensor:
    """p(w | context) from the count with the context, what is known of that and p(w | shorter context)."""
    return torch.where(n > 0, (count + t * shorter) / (n + t).clamp_min(1), shorter)


def _by_id(ids: Tensor, values: Tensor) -> Tensor:
    """Values in float32 at their ids, 0 elsewhere, one place more than the highest id."""
    size = int(ids.max()) + 2 if len(ids) else 1
    return torch.zeros(size, device=ids.device).index_copy_(0, ids, values.float())


def _of(table: Tensor, ids: Tensor) -> Tensor:
    """What ``_by_id`` has at some ids."""
    return table.index_select(0, ids.flatten().clamp_max(len(table) - 1)).view(ids.shape)
