"""Rounding inside the sampler: estimates that are captions."""

from __future__ import annotations

import torch
from torch import Tensor

from ladic.components.latent_spaces.base import TextLatentSpace
from ladic.components.latent_spaces.words import Words
from ladic.length_control import LengthDenoiser
from ladic.rounding.base import Rounding
from ladic.types import DenoiseFn

LOGITS = {"cpu": 2**22, "other": 2**28}
"""Numbers that are decided on at once, by device."""


class RoundedDenoiser:
    """``denoise`` whose estimates, where the rounding clamps, are latents of the captions that they are rounded to.

    Args:
        denoise: guidance inside.
        space: reads and writes captions.
        rounding: decides on the words.
        length: what holds captions in a range of lengths, if anything does.
    """

    def __init__(
        self, denoise: DenoiseFn, space: TextLatentSpace, rounding: Rounding, length: LengthDenoiser | None = None
    ) -> None:
        self.denoise, self.space, self.rounding, self.length = denoise, space, rounding, length
        self.words = Words.of(space)
        self._last: tuple[Tensor, Tensor, Tensor] | None = None  # a caption's latent, its readings, what it was

    def __call__(self, x_t: Tensor, t: Tensor, x0_prev: Tensor | None) -> Tensor:
        x0 = self.denoise(x_t, t, x0_prev)
        if not self.rounding.clamp:
            return x0
        readings = self.readings(x0)
        self._last = self.words.encode(self.space, readings[:, 0]).to(x0.dtype), readings, x0
        return self._last[0]

    def unrounded(self, x0: Tensor) -> Tensor:
        """The network's estimate behind the last one that was rounded; any other as it is."""
        return self._last[2] if self._last is not None and x0 is self._last[0] else x0

    def readings(self, x0: Tensor) -> Tensor:
        """Captions (B, R, L) as indices into the logits, the best first; of an estimate just rounded, those it has."""
        if self._last is not None and x0 is self._last[0]:
            return self._last[1]
        # Some rows at a time: the logits of many captions are gigabytes, and a CPU's cache holds few.
        numbers = LOGITS["cpu" if x0.device.type == "cpu" else "other"]
        rows = max(1, numbers // (x0.shape[1] * len(self.words.ids)))
        return torch.cat([self._round(part) for part in x0.split(rows)])

    def _round(self, x0: Tensor) -> Tensor:
        logits = self.space.decode(x0).float()
        if self.length is not None:
            logits = self.length.restrict(logits)
        return self.rounding.several(logits, self.words)
