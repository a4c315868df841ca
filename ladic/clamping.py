"""Filling in blanks (paper §4.5): the words that are given are clamped at every evaluation, the sampler fills the rest.

Latents of layer k are contextual: the latent of "holding" depends on what stands in the blank beside it. So there is a
choice in what given positions are clamped to, ``ClampTo``:

- "masked": their latents with the blanks left out of the text encoder's attention, once (what the paper describes);
- "reencoded": after every evaluation the sentence as it reads now is encoded anew;
- "late": masked while t is above ``LATE``, re-encoded from then on.

Re-encoding fills best (``benchmarks/results/infilling.md``) and is the default.

Clamping happens inside ``denoise``, so that it works with any sampler: given positions of x_t are the clamped latent at
the noise level of t, and those of the estimate the clamped latent itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ladic.components.latent_spaces.base import TextLatentSpace
from ladic.components.noise_schedules.base import NoiseSchedule
from ladic.pieces import pieces
from ladic.template import Layout
from ladic.types import DenoiseFn

ClampTo = Literal["masked", "reencoded", "late"]
LATE = 0.5


@dataclass(frozen=True)
class Given:
    """What is fixed of a batch of captions, all (B, L).

    Attributes:
        ids: token ids; anything at blanks.
        mask: 1 on words, given or not, and on [CLS] and [SEP].
        known: bool, False at blanks.
        begins: bool, positions whose token must begin a word (the first of a blank, and every one of a counted blank).
    """

    ids: Tensor
    mask: Tensor
    known: Tensor
    begins: Tensor

    @classmethod
    def of(cls, layouts: list[Layout], device: torch.device | str) -> Given:
        """Stacks layouts of one length."""

        def stacked(name: str, dtype: torch.dtype) -> Tensor:
            return torch.tensor([getattr(layout, name) for layout in layouts], dtype=dtype, device=device)

        return cls(
            stacked("ids", torch.long),
            stacked("mask", torch.long),
            stacked("known", torch.bool),
            stacked("begins", torch.bool),
        )


class Vocabulary:
    """Which of the head's words may fill a blank: whole words, and pieces that go on with one.

    Args:
        space: whose tokenizer and head they are.
    """

    def __init__(self, space: TextLatentSpace) -> None:
        tokenizer, ids = space.tokenizer, space.head.vocabulary.tolist()
        tokens = pieces(tokenizer, ids)
        special = set(tokenizer.all_special_ids)
        device = space.head.vocabulary.device
        self.piece = torch.tensor([token.startswith("##") for token in tokens], device=device)
        word = [i not in special and any(map(str.isalnum, token)) for i, token in zip(ids, tokens, strict=True)]
        self.word = torch.tensor(word, device=device)

    def restrict(self, logits: Tensor, begins: Tensor) -> Tensor:
        """Logits (B, L, V) without special tokens and punctuation, and without continuations where a word begins."""
        allowed = self.word & ~(self.piece & begins.unsqueeze(-1))
        return logits.masked_fill(~allowed, -torch.inf)


class ClampedDenoiser:
    """``denoise`` whose given positions are those of the template.

    Args:
        denoise: guidance inside.
        given: what is fixed.
        space, schedule: the model's.
        noise: (B, L, D) standard normal, the noise of given positions at every level.
        clamp: see the module.
        vocabulary: of the space.
    """

    def __init__(
        self,
        denoise: DenoiseFn,
        given: Given,
        space: TextLatentSpace,
        schedule: NoiseSchedule,
        noise: Tensor,
        clamp: ClampTo,
        vocabulary: Vocabulary,
    ) -> None:
        self.denoise, self.given, self.space, self.schedule = denoise, given, space, schedule
        self.noise, self.clamp, self.vocabulary = noise, clamp, vocabulary
        self.latents = space.encode(given.ids, given.mask, given.mask * given.known).float()

    def __call__(self, x_t: Tensor, t: Tensor, x0_prev: Tensor | None) -> Tensor:
        known = self.given.known.unsqueeze(-1)
        noised = self.schedule.add_noise(self.latents.to(x_t.dtype), t, self.noise.to(x_t.dtype))
        x0 = self.denoise(torch.where(known, noised, x_t), t, x0_prev)
        if self.clamp == "reencoded" or (self.clamp == "late" and float(t[0]) <= LATE):
            self.latents = self.space.encode(self.ids(x0), self.given.mask).float()
        return torch.where(known, self.latents.to(x0.dtype), x0)

    def ids(self, x0: Tensor) -> Tensor:
        """Token ids (B, L) of an estimate: those that are given, and the likeliest word in every blank."""
        clamped = torch.where(self.given.known.unsqueeze(-1), self.latents.to(x0.dtype), x0)
        logits = self.vocabulary.restrict(self.space.decode(clamped).float(), self.given.begins)
        filled = self.space.head.vocabulary[logits.argmax(-1)]
        return torch.where(self.given.known, self.given.ids, filled)

    def confidence(self, x0: Tensor) -> Tensor:
        """(B, L) probability of the likeliest word; 1 where it is given."""
        return self.space.decode(x0).float().softmax(-1).amax(-1).masked_fill(self.given.known, 1.0)
