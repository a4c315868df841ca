"""The network of the baselines: a transformer over the words of a caption that reads the image by cross-attention.

Its blocks are those of the diffusion's denoiser (``CrossAttentionDenoiser``), so that what differs between the two is
what they predict and in which order, not what they are made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor, nn

from ladic.baselines.words import WordTable
from ladic.components.denoisers import Context
from ladic.components.denoisers.blocks import Block, image_context
from ladic.components.denoisers.layers import KeyValueCache, check_rotary
from ladic.components.denoisers.transformer import Norm
from ladic.errors import UsageError


@dataclass(frozen=True)
class DecoderSettings:
    """Sizes and options of a decoder; as in ``CrossAttentionDenoiser``, where it has the same.

    Args:
        hidden_width: of the blocks.
        num_layers: blocks.
        num_heads: attention heads; they divide hidden_width.
        ffn_width: inner width of the feed-forward layers; None means four times hidden_width.
        dropout: on the embedded words, on attention weights and on each sub-layer's output.
        image_width: project image tokens to this width first, once for all blocks; None reads them as they are.
        image_norm: LayerNorm on the image tokens.
        norm: "pre" or "post".
        norm_eps: of the LayerNorms.
        tied: score words by their embeddings (Press & Wolf 2017) instead of a matrix of their own.
        qk_norm: normalise the queries and keys of every head.
        rotary: turn the queries and keys of self-attention by their positions.
    """

    hidden_width: int = 768
    num_layers: int = 12
    num_heads: int = 16
    ffn_width: int | None = None
    dropout: float = 0.1
    image_width: int | None = None
    image_norm: bool = True
    norm: Norm = "pre"
    norm_eps: float = 1e-5
    tied: bool = True
    qk_norm: bool = False
    rotary: bool = False

    def __post_init__(self) -> None:
        for name in ("hidden_width", "num_layers", "num_heads", "ffn_width", "image_width"):
            size = getattr(self, name)
            if size is not None and size < 1:
                raise UsageError(f"decoder {name}={size}: need at least 1")
        if self.hidden_width % self.num_heads:
            raise UsageError(
                f"decoder hidden_width={self.hidden_width}, num_heads={self.num_heads}: "
                "need a width that divides by the heads"
            )
        if self.rotary:
            check_rotary(self.hidden_width, self.num_heads)
        if not 0 <= self.dropout < 1:
            raise UsageError(f"decoder dropout={self.dropout}: a probability from 0 to below 1")
        if self.norm not in get_args(Norm):
            raise UsageError(f"decoder norm='{self.norm}': accepted are 'post' and 'pre'")


class CaptionDecoder(nn.Module):
    """Scores of a word at every position of a caption.

    Args:
        settings: sizes and options.
        vocabulary: token ids of the words, ascending, (V,).
        length: positions.
        cond_width: C of the image tokens.
        causal: whether a position sees only itself and those before it.

    Example:
        >>> decoder = CaptionDecoder(DecoderSettings(16, 1, 2), torch.arange(9), length=5, cond_width=6, causal=True)
        >>> decoder(torch.zeros(2, 3, dtype=torch.long), decoder.context(torch.randn(2, 7, 6))).shape
        torch.Size([2, 3, 9])
    """

    blocks: Sequence[Block]

    def __init__(
        self, settings: DecoderSettings, vocabulary: Tensor, *, length: int, cond_width: int, causal: bool
    ) -> None:
        super().__init__()
        width, eps, pre_norm = settings.hidden_width, settings.norm_eps, settings.norm == "pre"
        self.head = WordTable(width, vocabulary, settings.tied)
        self.positions = nn.Parameter(0.02 * torch.randn(length, width))
        self.image_norm = nn.LayerNorm(cond_width) if settings.image_norm else nn.Identity()
        read = cond_width if settings.image_width is None else settings.image_width
        self.image_input = nn.Identity() if settings.image_width is None else nn.Linear(cond_width, read)
        self.input_norm = nn.Identity() if pre_norm else nn.LayerNorm(width, eps=eps)
        self.dropout = nn.Dropout(settings.dropout)
        ffn = 4 * width if settings.ffn_width is None else settings.ffn_width
        blocks = [
            Block(
                width, settings.num_heads, read, ffn, settings.dropout, pre_norm, eps, causal,
                qk_norm=settings.qk_norm, rotary=settings.rotary,
            )
            for _ in range(settings.num_layers)
        ]  # fmt: skip
        self.blocks = nn.ModuleList(blocks)  # type: ignore[assignment]
        self.output_norm = nn.LayerNorm(width, eps=eps) if pre_norm else nn.Identity()

    def context(self, image_tokens: Tensor) -> Context:
        """All keys and values of images (B, N, C); once per image, not once per word."""
        image_tokens = image_tokens.to(self.positions.dtype)
        return image_context(self.blocks, self.image_input(self.image_norm(image_tokens)))

    def forward(
        self, words: Tensor, context: Context, first: int = 0, caches: Sequence[KeyValueCache] | None = None
    ) -> Tensor:
        """Logits (B, L, V) of words (B, L), which stand at the positions from ``first`` on.

        Args:
            words: as places in the vocabulary.
            context: of B images.
            first: position of the first of them.
            caches: of each block, what came before; the words are then one a row, and several rows, those of an image
                in a row, may share its context.
        """
        h = self.head.embed(words) + self.positions[first : first + words.shape[1]]
        h = self.dropout(self.input_norm(h))
        for index, block in enumerate(self.blocks):
            cache = None if caches is None else caches[index]
            h = block(h, *context.tensors[2 * index : 2 * index + 2], cache=cache)
        return self.head(self.output_norm(h))


class WordByWord:
    """A causal decoder asked for one more word at a time; earlier ones are remembered as keys and values.

    Args:
        decoder: causal.
        context: of B images.
    """

    def __init__(self, decoder: CaptionDecoder, context: Context) -> None:
        self.decoder, self.context = decoder, context
        self.caches = [KeyValueCache() for _ in decoder.blocks]
        self.position = 0

    def __call__(self, words: Tensor, rows: Tensor | None = None) -> Tensor:
        """Logits (R, V) of the word after ``words`` (R,), which go on what earlier rows said.

        Args:
            words: the newest word of each row.
            rows: (R,) which earlier row each goes on; the same if None.
        """
        if rows is not None:
            for cache in self.caches:
                cache.select(rows)
        logits = self.decoder(words.unsqueeze(1), self.context, self.position, self.caches)
        self.position += 1
        return logits[:, 0]
