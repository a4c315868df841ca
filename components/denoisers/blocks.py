"""Transformer blocks of denoisers and of the baselines' decoders."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from ladic.components.denoisers.base import Context
from ladic.components.denoisers.layers import Attention, FeedForward, KeyValueCache


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
    ) -> None:
        super().__init__()
        self.pre_norm, self.causal = pre_norm, causal
        self.self_attention = Attention(width, heads, dropout=dropout)
        self.cross_attention = Attention(width, heads, cond_width, dropout) if cond_width is not None else None
        self.feed_forward = FeedForward(width, ffn)
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=eps) for _ in range(2 if cond_width is None else 3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, *read: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Hidden states (B, L, width).

        Args:
            x: hidden states.
            read: keys and values of cross-attention, where there is any.
            cache: of a causal block that is given one new position at a time: what it has seen before. Several rows may
                then ``read`` the same image.
        """
        if self.pre_norm:
            y = self.norms[0](x)
            x = x + self.dropout(self._read_itself(y, cache))
            if self.cross_attention is not None:
                x = x + self.dropout(self._read_image(self.norms[1](x), read, cache is not None))
            return x + self.dropout(self.feed_forward(self.norms[-1](x)))
        x = self.norms[0](x + self.dropout(self._read_itself(x, cache)))
        if self.cross_attention is not None:
            x = self.norms[1](x + self.dropout(self._read_image(x, read, cache is not None)))
        return self.norms[-1](x + self.dropout(self.feed_forward(x)))

    def _read_image(self, x: Tensor, read: tuple[Tensor, ...], together: bool) -> Tensor:
        assert self.cross_attention is not None
        return self.cross_attention.read_together(x, *read) if together else self.cross_attention(x, *read)

    def _read_itself(self, x: Tensor, cache: KeyValueCache | None) -> Tensor:
        key, value = self.self_attention.keys_values(x)
        if cache is None:
            return self.self_attention(x, key, value, self.causal)
        assert self.causal
        assert x.shape[1] == 1, "later positions would be seen"
        return self.self_attention(x, *cache.extend(key, value))


def image_context(blocks: Iterable[Block], tokens: Tensor) -> Context:
    """Keys and values of every block's cross-attention, of image tokens (B, N, C)."""
    attentions = (block.cross_attention for block in blocks)
    pairs = (attention.keys_values(tokens) for attention in attentions if attention is not None)
    return Context(tuple(tensor for pair in pairs for tensor in pair))
