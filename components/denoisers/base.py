"""The contract of a denoiser: image work once per image, then one forward per step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ladic.spec import Buildable


@dataclass(frozen=True)
class Context:
    """Everything a denoiser keeps of a batch of images: tensors whose first dimension is the image.

    For ``CrossAttentionDenoiser`` these are the keys and values of every block, (B, heads, N, head width).

    Attributes:
        tensors: of the images.
        null: of a guided step: the same of no image, one row, which the second half of the latents reads. Only
            denoisers that share contexts are given it.
    """

    tensors: tuple[Tensor, ...]
    null: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.tensors[0])

    def repeat(self, times: int) -> Context:
        """Each image ``times`` times in a row: candidates of one image share its context."""
        if times == 1:
            return self
        return Context(tuple(tensor.repeat_interleave(times, dim=0) for tensor in self.tensors))

    def select(self, rows: Tensor) -> Context:
        """The context of some of the images."""
        return Context(tuple(tensor[rows] for tensor in self.tensors))

    def rows_at_once(self, wanted: int, most: int = 2**30) -> int:
        """How many rows, at most ``wanted``, ``select`` copies into ``most`` bytes; one at least."""
        each = sum(tensor[0].numel() * tensor.element_size() for tensor in self.tensors)
        return max(1, min(wanted, most // max(1, each)))

    def expand(self, batch: int) -> Context:
        """The context of one image for every row of a batch, as a view."""
        return Context(tuple(tensor.expand(batch, *tensor.shape[1:]) for tensor in self.tensors))

    @staticmethod
    def cat(contexts: Sequence[Context]) -> Context:
        """Contexts one below the other."""
        return Context(tuple(torch.cat(tensors) for tensors in zip(*(c.tensors for c in contexts), strict=True)))


class Denoiser(Buildable, nn.Module, ABC):
    """Predicts x0 from x_t. Sizes come from the latent space and the encoder it is put between.

    Args of every subclass, keyword-only: ``width`` D and ``length`` L of the latent, ``cond_width`` C of the image
    tokens.
    """

    width: int
    length: int
    shares_context: bool = False
    """Whether ``forward`` takes one context for several latents in a row, those of an image, and a ``Context.null``,
    which is of one token where all tokens of no image are equal. Other denoisers are given a row of the context for
    every latent, which costs memory. Not inherited by a class with a ``forward`` of its own, which has to say so."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "forward" in vars(cls) and "shares_context" not in vars(cls):
            cls.shares_context = False

    def context_of_candidates(self, context: Context, times: int) -> Context:
        """What ``forward`` is given where every image has ``times`` latents in a row."""
        return context if self.shares_context else context.repeat(times)

    def context_of_guided(self, context: Context, null: Context) -> Context:
        """What ``forward`` is given in a guided step, where the latents come twice: with their images, then without.

        Args:
            context: of the images.
            null: of no image, one row.
        """
        if self.shares_context:
            return Context(context.tensors, null.tensors)
        return Context.cat([context, null.expand(len(context))])

    @abstractmethod
    def context(self, image_tokens: Tensor) -> Context:
        """What the blocks need of image tokens (B, N, C); called once per image, not once per step."""

    @abstractmethod
    def forward(self, x_t: Tensor, t: Tensor, context: Context, x0_prev: Tensor | None = None) -> Tensor:
        """Estimate of x0 (B, L, D).

        Args:
            x_t: (B, L, D) noisy latent.
            t: (B,) time in [0, 1].
            context: from ``context()``, B images; fewer, with a divisor of B, where ``shares_context`` is true.
            x0_prev: (B, L, D) earlier estimate for self-conditioning (Chen et al. 2022); None means zeros.
        """


class DenoiserFactory(Protocol):
    """Builds a denoiser once the sizes around it are known; a YAML file names the class and the rest."""

    def __call__(self, *, width: int, length: int, cond_width: int) -> Denoiser: ...
