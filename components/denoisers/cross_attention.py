"""LaDiC's diffuser (paper §3.3 and Table 7): transformer blocks that read the image by cross-attention.

| paper | here |
| hidden size 768 | hidden_width |
| 12 layers, 16 heads, FFN 3072 | num_layers, num_heads, ffn_width |
| x_t and the previous estimate, self-conditioning | concatenated and projected, 2D -> hidden_width |
| position and time added to the input | learned positions; sinusoids through an MLP |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ladic.components.denoisers.base import Context, Denoiser
from ladic.components.denoisers.layers import Attention, FeedForward, TimeEmbedding
from ladic.errors import UsageError


class CrossAttentionDenoiser(Denoiser):
    """L blocks of self-attention, cross-attention and feed-forward.

    Args:
        width: D of the latent (filled in by the captioner).
        length: L, caption positions (filled in by the captioner).
        cond_width: C of the image tokens (filled in by the captioner).
        hidden_width: of the blocks.
        num_layers: blocks.
        num_heads: attention heads; they divide hidden_width.
        ffn_width: inner width of the feed-forward layers; None means four times hidden_width.
        dropout: on attention weights and on each sub-layer's output.
        image_width: project image tokens to this width first, once for all blocks; saves work where the encoder is
            wide (a CNN's 1280) and the blocks are not. None reads them as they are.
        norm: "post" as in BERT and LaDiC, or "pre", which trains faster without warm-up.
    """

    blocks: Sequence[Block]

    def __init__(
        self,
        *,
        width: int,
        length: int,
        cond_width: int,
        hidden_width: int = 768,
        num_layers: int = 12,
        num_heads: int = 16,
        ffn_width: int | None = None,
        dropout: float = 0.1,
        image_width: int | None = None,
        norm: Literal["post", "pre"] = "post",
    ) -> None:
        super().__init__()
        if hidden_width % num_heads or hidden_width % 2:
            raise UsageError(
                f"hidden_width={hidden_width}, num_heads={num_heads}: the width must be even and divide by the heads"
            )
        if norm not in ("post", "pre"):
            raise UsageError(f"norm='{norm}': accepted are 'post' and 'pre'")
        self.width, self.length = width, length
        self.input = nn.Linear(2 * width, hidden_width)
        self.positions = nn.Parameter(0.02 * torch.randn(length, hidden_width))
        self.time = TimeEmbedding(hidden_width)
        self.image_norm = nn.LayerNorm(cond_width)
        self.image_input = nn.Linear(cond_width, image_width) if image_width else nn.Identity()
        self.input_norm = nn.LayerNorm(hidden_width) if norm == "post" else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        blocks = [
            Block(
                hidden_width,
                num_heads,
                image_width or cond_width,
                ffn_width or 4 * hidden_width,
                dropout,
                norm == "pre",
            )
            for _ in range(num_layers)
        ]
        self.blocks = nn.ModuleList(blocks)  # type: ignore[assignment]
        self.output_norm = nn.LayerNorm(hidden_width) if norm == "pre" else nn.Identity()
        self.output = nn.Linear(hidden_width, width)

    def context(self, image_tokens: Tensor) -> Context:
        tokens = self.image_input(self.image_norm(image_tokens))
        pairs = (block.cross_attention.keys_values(tokens) for block in self.blocks)
        return Context(tuple(tensor for pair in pairs for tensor in pair))

    def forward(self, x_t: Tensor, t: Tensor, context: Context, x0_prev: Tensor | None = None) -> Tensor:
        x0_prev = torch.zeros_like(x_t) if x0_prev is None else x0_prev
        h = self.input(torch.cat([x_t, x0_prev], dim=-1)) + self.positions + self.time(t).unsqueeze(1)
        h = self.dropout(self.input_norm(h))
        for index, block in enumerate(self.blocks):
            h = block(h, *context.tensors[2 * index : 2 * index + 2])
        return self.output(self.output_norm(h))


class Block(nn.Module):
    """Self-attention, cross-attention and feed-forward, each with a residual and a LayerNorm."""

    def __init__(self, width: int, heads: int, cond_width: int, ffn: int, dropout: float, pre_norm: bool) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.self_attention = Attention(width, heads, dropout=dropout)
        self.cross_attention = Attention(width, heads, cond_width, dropout)
        self.feed_forward = FeedForward(width, ffn)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if self.pre_norm:
            y = self.norms[0](x)
            x = x + self.dropout(self.self_attention(y, *self.self_attention.keys_values(y)))
            x = x + self.dropout(self.cross_attention(self.norms[1](x), key, value))
            return x + self.dropout(self.feed_forward(self.norms[2](x)))
        x = self.norms[0](x + self.dropout(self.self_attention(x, *self.self_attention.keys_values(x))))
        x = self.norms[1](x + self.dropout(self.cross_attention(x, key, value)))
        return self.norms[2](x + self.dropout(self.feed_forward(x)))
