"""How long a caption becomes, in tokens: left to the model, or held in a range while it is sampled.

The paper's length is implicit: [PAD] is a word like any other, and a caption ends where the model says so. Here every
estimate is looked at, the way Diffusion-LM clamps to words (Li et al. 2022, §4.2): what lies beyond the range gets the
latent of special positions; where the caption ends too early, the likeliest words are put in, encoded with the rest.
The model then goes on from an estimate of that length, so the words around fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ladic.components.latent_spaces.base import TextLatentSpace
from ladic.components.latent_spaces.words import Words
from ladic.errors import UsageError
from ladic.types import DenoiseFn


@dataclass(frozen=True)
class LengthRange:
    """Tokens of a caption, word pieces and punctuation, [CLS] and [SEP] not counted.

    Attributes:
        least: at least so many; None is left to the model.
        most: at most so many; None is left to the model, which holds so many.
    """

    least: int | None = None
    most: int | None = None

    def __post_init__(self) -> None:
        least = self.least or 0
        if least < 0 or (self.most is not None and self.most < max(1, least)):
            raise UsageError(f"length of {self.in_words}: need 0 <= least <= most and most >= 1")

    @property
    def in_words(self) -> str:
        """Such as "3 to 5 tokens", for complaints."""
        return f"{self.least or 0} to {'any number of' if self.most is None else self.most} tokens"

    def within(self, least: int, most: int | None) -> LengthRange:
        """The same, with a model's own bounds where it says nothing, which give way to those it says.

        Example:
            >>> LengthRange(most=4).within(2, 9), LengthRange(most=4).within(6, 9)
            (LengthRange(least=2, most=4), LengthRange(least=4, most=4))
        """
        if self.least is not None:
            own = None if most is None else max(most, self.least)
            return LengthRange(self.least, own if self.most is None else self.most)
        return LengthRange(least if self.most is None else min(least, self.most), self.most or most)

    def check(self, length: int, option: str = "--model.latent_space.length") -> None:
        """Refuses a range beyond a model of ``length`` positions, which ``option`` sets.

        Raises:
            UsageError: naming both.
        """
        longest = max(self.least or 0, self.most or 0)
        if longest > length - 2:
            raise UsageError(
                f"length of {longest} tokens: the model's length is {length}, which holds {length - 2}; "
                f"take less, or train with {option}={longest + 2}"
            )


class LengthDenoiser:
    """``denoise`` whose estimates have a length in the range.

    Args:
        denoise: guidance inside.
        space: reads and writes captions.
        length: the range.
    """

    def __init__(self, denoise: DenoiseFn, space: TextLatentSpace, length: LengthRange) -> None:
        length.check(space.length)
        self.denoise, self.space, self.words = denoise, space, Words.of(space)
        self.least, self.most = length.least or 0, length.most if length.most is not None else space.length - 2

    def __call__(self, x_t: Tensor, t: Tensor, x0_prev: Tensor | None) -> Tensor:
        x0 = self.denoise(x_t, t, x0_prev)
        logits = self.space.decode(x0)
        ends = self._ends(logits).unsqueeze(1)
        place = torch.arange(x0.shape[1], device=x0.device).unsqueeze(0)
        lacking = (place > ends) & (place <= self.least)
        beyond = place > self.most
        if self.space.reassign:
            x0 = torch.where(beyond.unsqueeze(-1), self.space.special_latent().to(x0.dtype), x0)
        elif self.most < x0.shape[1] - 2:  # its [SEP] and [PAD] have features of their own, by the caption before them
            lacking = lacking | beyond.expand_as(lacking)
        if bool(lacking.any()):
            within = self.words.encode(self.space, self._indices(logits), ends.squeeze(1).clamp(self.least, self.most))
            x0 = torch.where(lacking.unsqueeze(-1), within.to(x0.dtype), x0)
        return x0

    def indices(self, x0: Tensor) -> Tensor:
        """Index into the logits (B, L) of each position's word, so many of them as the range says."""
        return self._indices(self.space.decode(x0))

    def restrict(self, logits: Tensor) -> Tensor:
        """Logits (B, L, V) by which words alone stand up to the least number, and the end alone behind the most."""
        place = torch.arange(logits.shape[1], device=logits.device).view(1, -1, 1)
        end = torch.arange(logits.shape[2], device=logits.device) == self.words.end
        wrong = ((place >= 1) & (place <= self.least) & self.words.filler) | (
            ((place == 0) | (place > self.most)) & ~end
        )
        return logits.masked_fill(wrong, -torch.inf)

    def _indices(self, logits: Tensor) -> Tensor:
        place = torch.arange(logits.shape[1], device=logits.device).unsqueeze(0)
        ends = self._ends(logits).unsqueeze(1)
        inside = (place >= 1) & (place <= self.least)
        indices = logits.masked_fill(inside.unsqueeze(-1) & self.words.filler, -torch.inf).argmax(-1)
        return indices.masked_fill((place == 0) | (place > ends.clamp(self.least, self.most)), self.words.end)

    def _ends(self, logits: Tensor) -> Tensor:
        """(B,) last position with a word; 0 where there is none."""
        return self.words.ends(logits.argmax(-1))
