"""Analog bits: each token's number in binary, as real numbers (Bit Diffusion, Chen et al. 2022, section 2)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ladic.components.latent_spaces.backbone import load_tokenizer
from ladic.components.latent_spaces.base import TextLatentSpace
from ladic.components.latent_spaces.head import WordHead
from ladic.components.latent_spaces.normalizer import LatentNormalizer
from ladic.errors import UsageError


class AnalogBitsLatentSpace(TextLatentSpace):
    """A token id as ceil(log2 V) bits, each -scale or +scale; no text model, and nothing that has to be fitted.

    A latent is read back by how well it agrees with the code of every word, so that the nearest code wins, the one with
    the same signs where there is a word with it. With a vocabulary restricted by ``ladic fit-space`` words keep their
    codes, and codes of other words are not looked at.

    Special positions get the code of [PAD]: the zero latent of the other spaces is as far from each word as from any
    other.

    Args:
        tokenizer: hub name, folder, "package:NAME/FOLDER", vocabulary file or tokenizer.json text.
        length: L, positions of a caption.
        scale: what bits are multiplied by (section 2.2 has 1; the smaller, the more noise is in x_t at a given t).
        temperature: logits are agreement / temperature; where training begins, for it is learned.
        fitted: file from ``ladic fit-space``: the restricted vocabulary, and statistics where ``normalize`` is on.
        special_token: as in ``BertLatentSpace``; None gives special positions the code and the target [PAD].
        normalize: standardise the bits; by default they are the latents.
        normalizer_eps: added to the standard deviation.
        reassign: give special positions one latent; without, [CLS], [SEP] and [PAD] have their own codes as in the
            paper.

    Example:
        >>> from ladic.testing import tiny_tokenizer
        >>> space = AnalogBitsLatentSpace(tiny_tokenizer(), length=5)
        >>> tokens = space.tokenize(["a red"])
        >>> x0 = space.encode(tokens.input_ids, tokens.attention_mask)
        >>> x0.shape, x0[0, 1].tolist()  # "a" is token 6
        (torch.Size([1, 5, 7]), [-1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0])
        >>> space.to_text(space.decode(x0).argmax(-1))
        ['a red']
    """

    trained_head = True

    def __init__(
        self,
        tokenizer: str,
        length: int = 24,
        scale: float = 1.0,
        temperature: float = 0.5,
        fitted: str | None = None,
        special_token: str | None = None,
        normalize: bool = False,
        normalizer_eps: float = 1e-6,
        reassign: bool = True,
    ) -> None:
        super().__init__()
        for name, value in (("scale", scale), ("temperature", temperature)):
            if not value > 0:
                raise UsageError(f"{name}={value}: need more than 0")
        if length < 3:
            raise UsageError(f"length={length}: need at least 3, for [CLS], a word and [SEP]")
        self.tokenizer = load_tokenizer(tokenizer)
        words = 1 + max(self.tokenizer.get_vocab().values())
        self.width, self.length, self.scale = (words - 1).bit_length(), length, scale
        self.special_token, self.reassign = special_token, reassign
        self.normalizer = LatentNormalizer(self.width, normalizer_eps, normalize)
        self.head = BitsHead(self.width, torch.arange(words), scale, temperature)
        if fitted is not None:
            self.load_fit(fitted)
        self.freeze_backbone()

    def features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The bits (B, L, D), lowest first."""
        return self.scale * bits(input_ids, self.width)

    def special_latent(self) -> Tensor:
        """That of ``special_token``, or of [PAD]."""
        if self.special_token is not None:
            return super().special_latent()
        pad = torch.full((), self.tokenizer.pad_token_id, device=self.normalizer.mean.device)
        return self.normalizer.normalize(self.scale * bits(pad, self.width))

    def checkpoint_args(self) -> dict[str, Any]:
        """The tokenizer's text stands in for where it came from."""
        text = self.tokenizer.backend_tokenizer.to_str()
        return super().checkpoint_args() | {"tokenizer": text, "fitted": None}


class BitsHead(WordHead):
    """Agreement of real-valued bits with the code of every word: logits = x . c / temperature, |x| and |c| being those
    of bits of 1.

    Under noise of variance temperature in each bit of 1 this is, up to a constant, the log-likelihood of every code,
    as all codes are equally long.

    Args:
        width: bits.
        vocabulary: token ids scored, ascending, (V,).
        scale: of the bits.
        temperature: to begin with; its logarithm is trained.
    """

    def __init__(self, width: int, vocabulary: Tensor, scale: float, temperature: float) -> None:
        super().__init__(vocabulary)
        self.width, self.scale = width, scale
        self.log_temperature = nn.Parameter(torch.tensor(float(temperature)).log())

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, L, V) of bits (B, L, D)."""
        codes = bits(self.vocabulary, self.width).to(features.dtype)
        return features @ codes.T / (self.scale * self.log_temperature.exp().to(features.dtype))


def bits(ids: Tensor, width: int) -> Tensor:
    """Ids (...) in binary as -1 and 1, the lowest bit first, (..., width).

    Example:
        >>> bits(torch.tensor([0, 1, 6]), 3).tolist()
        [[-1.0, -1.0, -1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, 1.0]]
    """
    places = torch.arange(width, device=ids.device)
    return 2.0 * ((ids.unsqueeze(-1) >> places) & 1) - 1
