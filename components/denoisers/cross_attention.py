"""LaDiC's diffuser (paper §3.3 and Table 7): transformer blocks that read the image by cross-attention.

| paper | here |
| hidden size 768 | hidden_width |
| 12 layers, 16 heads, FFN 3072 | num_layers, num_heads, ffn_width |
| x_t and the previous estimate, self-conditioning | concatenated and projected, 2D -> hidden_width |
| position and time added to the input | learned positions; sinusoids through an MLP |

The released code's diffuser is the same class with other options: see ``configs/experiment/ladic_released.yaml``.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ladic.components.denoisers.base import Context
from ladic.components.denoisers.blocks import Block, image_context
from ladic.components.denoisers.transformer import Norm, Time, TransformerDenoiser


class CrossAttentionDenoiser(TransformerDenoiser):
    """L blocks of self-attention, cross-attention and feed-forward (paper §3.3).

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
        image_norm: LayerNorm on the image tokens; the released code has none, BLIP's tokens come out of one.
        norm: "post" as in BERT and LaDiC, or "pre", which trains faster without warm-up.
        norm_eps: of the LayerNorms; 1e-12 in BERT and in the released code.
        projections: whether linear layers lead from x_t and the previous estimate to the blocks and back. Without, as
            in the released code, both go in side by side, so that hidden_width must be 2D, and the first D channels
            that come out are the estimate.
        time: how t is added: sinusoids through an MLP ("mlp"), as they are ("sinusoids", the released training
            script's default), or after a LayerNorm ("sinusoids_norm", the released weights). With "adaln_zero" it isn't
            added but shifts, scales and gates every sub-layer, which does nothing at first (Peebles & Xie 2023).
        time_entries: t is told as the nearest of so many steps, for schedules that are tables (1000 in the released
            code); None tells it as it is.
        max_length: learned positions, L or more (512 in the released code); None means L.
        init_std: draw weights from a normal of this deviation, with biases 0 (BERT and released code: 0.02); None
            keeps PyTorch's defaults.
        recompute: keep nothing of the blocks for the backward pass but their inputs, and run them again there
            (activation checkpointing): less memory for a third more work.
        qk_norm: normalise the queries and keys of every head (Dehghani et al. 2023).
        rotary: turn the queries and keys of self-attention by their positions (RoPE, Su et al. 2021), beside the
            learned positions.

    Example:
        >>> import torch
        >>> released = CrossAttentionDenoiser(
        ...     width=8, length=4, cond_width=6, hidden_width=16, num_layers=2, num_heads=2, projections=False,
        ...     image_norm=False, time="sinusoids_norm", time_entries=1000, norm_eps=1e-12, init_std=0.02)
        >>> released(torch.randn(2, 4, 8), torch.ones(2), released.context(torch.randn(2, 5, 6))).shape
        torch.Size([2, 4, 8])
    """

    blocks: Sequence[Block]
    shares_context = True

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
        image_norm: bool = True,
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
        self._make_input(
            hidden_width,
            projections=projections,
            time=time,
            time_entries=time_entries,
            max_length=max_length,
            norm_eps=norm_eps,
        )
        self.image_norm = nn.LayerNorm(cond_width) if image_norm else nn.Identity()
        self.image_input = nn.Linear(cond_width, image_width) if image_width else nn.Identity()
        self.input_norm = nn.LayerNorm(hidden_width, eps=norm_eps) if norm == "post" else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        read = image_width or cond_width
        ffn = ffn_width or 4 * hidden_width
        blocks = [
            Block(
                hidden_width, num_heads, read, ffn, dropout, norm == "pre", norm_eps,
                qk_norm=qk_norm, rotary=rotary, adaptive=self.adaptive,
            )
            for _ in range(num_layers)
        ]  # fmt: skip
        self.blocks = nn.ModuleList(blocks)  # type: ignore[assignment]
        self._make_output(hidden_width, projections=projections, pre_norm=norm == "pre", norm_eps=norm_eps)
        if init_std is not None:
            self._draw_weights(init_std)

    def context(self, image_tokens: Tensor) -> Context:
        return image_context(self.blocks, self.image_input(self.image_norm(image_tokens.to(self.positions.dtype))))

    def forward(self, x_t: Tensor, t: Tensor, context: Context, x0_prev: Tensor | None = None) -> Tensor:
        h, condition = self.enter(x_t, t, x0_prev)
        h = self.dropout(self.input_norm(h))
        for index, block in enumerate(self.blocks):
            own = slice(2 * index, 2 * index + 2)
            h = self.run_block(block, h, *context.tensors[own], *context.null[own], condition=condition)
        return self.leave(h)
