"""Features of captions that were seen before, so that a frozen text model reads each caption once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class FeatureMemory:
    """Keeps the features (L, D) of captions by their token ids, on the device and in the precision they came in.

    The ids are read on the host, so that a GPU is waited for once a step.

    Args:
        capacity: captions at most; later ones are computed every time.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.known: dict[bytes, Tensor] = {}

    def __call__(self, ids: Tensor, mask: Tensor, compute: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Features (B, L, D) of token ids and mask (B, L); ``compute`` is asked for those that aren't known."""
        keys = [row.tobytes() for row in torch.stack([ids, mask.to(ids.dtype)], 1).cpu().numpy()]
        new = [row for row, key in enumerate(keys) if key not in self.known]
        found = dict(zip([keys[row] for row in new], compute(ids[new], mask[new]), strict=True)) if new else {}
        features = torch.stack([self.known[key] if key in self.known else found[key] for key in keys])
        for key in list(found)[: max(0, self.capacity - len(self.known))]:
            self.known[key] = found[key].clone()  # not a view that keeps the whole batch
        return features

    def __deepcopy__(self, memo: object) -> FeatureMemory:
        return FeatureMemory(self.capacity)
