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
        self.denoise, self.space = denoise, space
        self.least, self.most = length.least or 0, length.most if length.most is not None else space.length - 2
        tokenizer, vocabulary = space.tokenizer, space.head.vocabulary
        end = tokenizer.pad_token_id
        if space.special_token is not None:
            end = tokenizer(space.special_token, add_special_tokens=False)["input_ids"][0]
        fillers = torch.tensor([*tokenizer.all_special_ids, end], device=vocabulary.device)
        self.filler = torch.isin(vocabulary, fillers)  # (V,): no words
        self.end = int(torch.searchsorted(vocabulary, fillers[-1]))

    def __call__(self, x_t: Tensor, t: Tensor, x0_prev: Tensor | None) -> Tensor:
        x0 = self.denoise(x_t, t, x0_prev)
        logits = self.space.decode(x0)
        ends = self._ends(logits).unsqueeze(1)
        place = torch.arange(x0.shape[1], device=x0.device).unsqueeze(0)
        special = self.space.special_latent().to(x0.dtype)
        x0 = torch.where((place > ends.clamp(self.least, self.most)).unsqueeze(-1), special, x0)
        lacking = (place > ends) & (place <= self.least)
        if bool(lacking.any()):
            ids = self.space.head.vocabulary[self._indices(logits)]
            within = (place <= ends.clamp(self.least, self.most) + 1).long()
            ids[:, 0] = self.space.tokenizer.cls_token_id
            ids = ids.scatter(1, ends.clamp(self.least, self.most) + 1, self.space.tokenizer.sep_token_id)
            x0 = torch.where(lacking.unsqueeze(-1), self.space.encode(ids, within).to(x0.dtype), x0)
        return x0

    def indices(self, x0: Tensor) -> Tensor:
        """Index into the logits (B, L) of each position's word, so many of them as the range says."""
        return self._indices(self.space.decode(x0))

    def _indices(self, logits: Tensor) -> Tensor:
        place = torch.arange(logits.shape[1], device=logits.device).unsqueeze(0)
        ends = self._ends(logits).unsqueeze(1)
        inside = (place >= 1) & (place <= self.least)
        words = logits.masked_fill(inside.unsqueeze(-1) & self.filler, -torch.inf).argmax(-1)
        return words.masked_fill((place == 0) | (place > ends.clamp(self.least, self.most)), self.end)

    def _ends(self, logits: Tensor) -> Tensor:
        """(B,) last position with a word; 0 where there is none."""
        word = ~self.filler[logits.argmax(-1)]
        word[:, 0] = False
        place = torch.arange(word.shape[1], device=word.device)
        return (word * place).amax(1)
