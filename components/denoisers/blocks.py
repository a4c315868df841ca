"""Transformer blocks of denoisers and of the baselines' decoders."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn

from ladic.components.denoisers.base import Context
from ladic.components.denoisers.layers import Attention, FeedForward, KeyValueCache, Modulation


class Block(nn.Module):
    """Self-attention, cross-attention and feed-forward, each with a residual and a LayerNorm.

    Args:
        width: of the hidden states.
        heads: of both attentions.
        cond_width: of what is read by cross-attention; None leaves cross-attention out.
        ffn: inner width of the feed-forward layers.
        dropout: on attention weights and on each sub-layer's output.
        pre_norm: whether the norms come before the sub-layers.
        eps: of the norms.
        causal: whether a position's self-attention sees only itself and those before it.
        qk_norm: whether queries and keys of both attentions are normalised.
        rotary: whether self-attention knows positions by rotation.
        adaptive: whether a condition shifts, scales and gates every sub-layer (Peebles & Xie 2023, "Scalable Diffusion
            Models with Transformers", adaLN-Zero); norms come before them then.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        cond_width: int | None,
        ffn: int,
        dropout: float,
        pre_norm: bool,
        eps: float,
        causal: bool = False,
        *,
        qk_norm: bool = False,
        rotary: bool = False,
        adaptive: bool = False,
    ) -> None:
        super().__init__()
        self.pre_norm, self.causal = pre_norm, causal
        self.self_attention = Attention(width, heads, dropout=dropout, qk_norm=qk_norm, rotary=rotary)
        self.cross_attention = Attention(width, heads, cond_width, dropout, qk_norm) if cond_width is not None else None
        self.feed_forward = FeedForward(width, ffn)
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=eps) for _ in range(2 if cond_width is None else 3))
        self.dropout = nn.Dropout(dropout)
        self.modulation = Modulation(width, len(self.norms)) if adaptive else None

    def forward(
        self, x: Tensor, *read: Tensor, cache: KeyValueCache | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """Hidden states (B, L, width).

        Args:
            x: hidden states.
            read: keys and values of cross-attention, where there is any, of B rows or of a divisor of B, each for as
                many rows of x in a row; then those that the second half of x reads, where it reads others.
            cache: of a causal block that is given one new position at a time: what it has seen before.
            condition: (B, width) of an adaptive block.
        """
        layers: list[Callable[[Tensor], Tensor]] = [partial(self._read_itself, cache=cache), self.feed_forward]
        if self.cross_attention is not None:
            layers.insert(1, partial(self._read_image, read=read))
        if not self.pre_norm:
            for norm, layer in zip(self.norms, layers, strict=True):
                x = norm(x + self.dropout(layer(x)))
        elif self.modulation is None:
            for norm, layer in zip(self.norms, layers, strict=True):
                x = x + self.dropout(layer(norm(x)))
        else:
            assert condition is not None
            changes = self.modulation.changes(condition)
            for norm, layer, (shift, scale, gate) in zip(self.norms, layers, changes, strict=True):
                x = x + gate * self.dropout(layer(norm(x) * (1 + scale) + shift))
        return x

    def _read_image(self, x: Tensor, read: tuple[Tensor, ...]) -> Tensor:
        assert self.cross_attention is not None
        together = self.cross_attention.read_together
        if len(read) == 2:
            return together(x, *read)
        with_image, without = x.chunk(2)
        return torch.cat([together(with_image, *read[:2]), together(without, *read[2:])])

    def _read_itself(self, x: Tensor, cache: KeyValueCache | None) -> Tensor:
        first = 0 if cache is None else len(cache)
        key, value = self.self_attention.keys_values(x, first)
        if cache is None:
            return self.self_attention(x, key, value, self.causal)
        assert self.causal
        assert x.shape[1] == 1, "later positions would be seen"
        return self.self_attention(x, *cache.extend(key, value), first=first)


def image_context(blocks: Iterable[Block], tokens: Tensor) -> Context:
    """Keys and values of every block's cross-attention, of image tokens (B, N, C)."""
    attentions = (block.cross_attention for block in blocks)
    pairs = (attention.keys_values(tokens) for attention in attentions if attention is not None)
    return Context(tuple(tensor for pair in pairs for tensor in pair))
