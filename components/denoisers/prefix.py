"""The baseline of the paper's ablation (Table 5, row a): the image as one more token of the sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ladic.components.denoisers.base import Context
from ladic.components.denoisers.blocks import Block
from ladic.components.denoisers.transformer import Norm, Time, TransformerDenoiser
from ladic.errors import UsageError

Pool = Literal["first", "mean"]


class PrefixDenoiser(TransformerDenoiser):
    """A transformer over the L latents and one image token after them; there is no cross-attention.

    Args:
        width: D of the latent (filled in by the captioner).
        length: L, caption positions (filled in by the captioner).
        cond_width: C of the image tokens (filled in by the captioner).
        hidden_width: of the blocks.
        num_layers: blocks.
        num_heads: attention heads; they divide hidden_width.
        ffn_width: inner width of the feed-forward layers; None means four times hidden_width.
        dropout: on attention weights and on each sub-layer's output.
        pool: which token stands for the image: the encoder's "first", which is [CLS] in a ViT (the paper), or the
            "mean" of all, for encoders without one.
        norm: "post" or "pre".
        norm_eps: of the LayerNorms.
        projections, time, time_entries, max_length, init_std, recompute, qk_norm, rotary: as in
            ``CrossAttentionDenoiser``.
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
        pool: Pool = "first",
        norm: Norm = "post",
        norm_eps: float = 1e-5,
        projections: bool = True,
        time: Time = "mlp",
        time_entries: int | None = None,
        max_length: int | None = None,
        init_std: float | None = None,
        recompute: bool = False,
        qk_norm: bool = False,
        rotary: bool = False,
    ) -> None:
        super().__init__()
        self.width, self.length, self.recompute = width, length, recompute
        self._check(hidden_width, num_heads, norm, time, projections, rotary)
        if pool not in get_args(Pool):
            raise UsageError(f"pool='{pool}': accepted are 'first' and 'mean'")
        self.pool = pool
        self._make_input(
            hidden_width,
            projections=projections,
            time=time,
            time_entries=time_entries,
            max_length=max_length,
            norm_eps=norm_eps,
        )
        self.image_input = nn.Linear(cond_width, hidden_width)
        self.input_norm = nn.LayerNorm(hidden_width, eps=norm_eps) if norm == "post" else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        ffn = ffn_width or 4 * hidden_width
        blocks = [
            Block(
                hidden_width, num_heads, None, ffn, dropout, norm == "pre", norm_eps,
                qk_norm=qk_norm, rotary=rotary, adaptive=self.adaptive,
            )
            for _ in range(num_layers)
        ]  # fmt: skip
        self.blocks = nn.ModuleList(blocks)  # type: ignore[assignment]
        self._make_output(hidden_width, projections=projections, pre_norm=norm == "pre", norm_eps=norm_eps)
        if init_std is not None:
            self._draw_weights(init_std)

    def context(self, image_tokens: Tensor) -> Context:
        """The image's token, (B, 1, hidden width)."""
        token = image_tokens[:, :1] if self.pool == "first" else image_tokens.mean(1, keepdim=True)
        return Context((self.image_input(token.to(self.positions.dtype)),))

    def forward(self, x_t: Tensor, t: Tensor, context: Context, x0_prev: Tensor | None = None) -> Tensor:
        h, condition = self.enter(x_t, t, x0_prev)
        h = self.dropout(self.input_norm(torch.cat([h, context.tensors[0].to(h.dtype)], dim=1)))
        for block in self.blocks:
            h = self.run_block(block, h, condition=condition)
        return self.leave(h[:, : self.length])
