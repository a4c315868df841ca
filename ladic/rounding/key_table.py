"""Numbers by key, found all at once: a hash table of tensors with linear probing (Knuth, TAOCP 3, §6.4).

A binary search through n keys goes to memory log2(n) times for each question, one step waiting for the other. Here a
question goes to its home and to the few places behind it, whole tensors of questions at a time. At most a quarter of
the places is taken: of a hundred thousand keys none is more than four places or so from its home, and all questions go
so far together.
"""

from __future__ import annotations

import torch
from torch import Tensor

SPREAD = -7046029254386353131
"""2^64 over the golden ratio, as an int64: multiplied by it, neighbouring keys lie far apart (Knuth, ibid.)."""


class KeyTable:
    """What each of some keys has, 0 for any other key.

    Args:
        keys: (M,) int64, 0 or more, each once.
        values: (M,) numbers.

    Example:
        >>> table = KeyTable(torch.tensor([7, 2**40]), torch.tensor([3, 5]))
        >>> table(torch.tensor([[2**40, 7], [8, 0]]))
        tensor([[5., 3.],
                [0., 0.]])
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self._bits = max(2, (4 * len(keys)).bit_length())
        homes, order = self._home(keys).sort(stable=True)
        # A key sits at its home, or behind the one before it where that is taken.
        ahead = torch.arange(len(keys), device=keys.device)
        places = ahead + (homes - ahead).cummax(0).values if len(keys) else homes
        self.steps = int((places - homes).max()) if len(keys) else 0
        size = 2**self._bits + self.steps + 1
        self._keys = torch.full((size,), -1, device=keys.device).index_copy_(0, places, keys[order])
        self._values = torch.zeros(size, device=keys.device).index_copy_(0, places, values[order].float())

    def __call__(self, keys: Tensor) -> Tensor:
        """Values of keys, in float32, of any shape."""
        flat = keys.flatten()
        place = self._home(flat)
        for _ in range(self.steps):
            place = place + (self._keys.index_select(0, place) != flat)
        found = self._keys.index_select(0, place) == flat
        return torch.where(found, self._values.index_select(0, place), 0.0).view(keys.shape)

    def _home(self, keys: Tensor) -> Tensor:
        return ((keys * SPREAD) >> (64 - self._bits)) + 2 ** (self._bits - 1)
