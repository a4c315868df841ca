"""Transformer blocks of denoisers."""

from __future__ import annotations

from torch import Tensor, nn

from ladic.components.denoisers.layers import Attention, FeedForward


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
    """

    def __init__(
        self, width: int, heads: int, cond_width: int | None, ffn: int, dropout: float, pre_norm: bool, eps: float
    ) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.self_attention = Attention(width, heads, dropout=dropout)
        self.cross_attention = Attention(width, heads, cond_width, dropout) if cond_width is not None else None
        self.feed_forward = FeedForward(width, ffn)
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=eps) for _ in range(2 if cond_width is None else 3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, *read: Tensor) -> Tensor:
        """Hidden states (B, L, width); ``read`` are keys and values of cross-attention, where there is any."""
        if self.pre_norm:
            y = self.norms[0](x)
            x = x + self.dropout(self.self_attention(y, *self.self_attention.keys_values(y)))
            if self.cross_attention is not None:
                x = x + self.dropout(self.cross_attention(self.norms[1](x), *read))
            return x + self.dropout(self.feed_forward(self.norms[-1](x)))
        x = self.norms[0](x + self.dropout(self.self_attention(x, *self.self_attention.keys_values(x))))
        if self.cross_attention is not None:
            x = self.norms[1](x + self.dropout(self.cross_attention(x, *read)))
        return self.norms[-1](x + self.dropout(self.feed_forward(x)))
