"""What transformer denoisers share: how latents, time and positions go in, and how the estimate comes out."""

from __future__ import annotations

from abc import ABC
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ladic.components.denoisers.base import Denoiser
from ladic.components.denoisers.layers import Modulation, TimeEmbedding, TimeTable, check_rotary
from ladic.errors import UsageError

Norm = Literal["post", "pre"]
Time = Literal["mlp", "sinusoids", "sinusoids_norm", "adaln_zero"]


class TransformerDenoiser(Denoiser, ABC):
    """Latents in and out of a stack of blocks. A subclass makes the blocks between ``enter`` and ``leave``.

    Its constructor checks, makes the way in, then its own layers, then the way out, in this order: random weights then
    come out the same whichever of the options are left at their defaults.
    """

    recompute: bool = False
    adaptive: bool = False

    def _check(
        self, hidden_width: int, num_heads: int, norm: str, time: str, projections: bool, rotary: bool = False
    ) -> None:
        given = {**self.__dict__["_init_args"], "hidden_width": hidden_width, "num_heads": num_heads}
        for name in ("hidden_width", "num_layers", "num_heads", "ffn_width", "image_width"):
            size = given.get(name)
            if size is not None and size < 1:
                raise UsageError(f"{name}={size}: need at least 1")
        if hidden_width % num_heads or hidden_width % 2:
            raise UsageError(
                f"hidden_width={hidden_width}, num_heads={num_heads}: the width must be even and divide by the heads"
            )
        if norm not in get_args(Norm):
            raise UsageError(f"norm='{norm}': accepted are 'post' and 'pre'")
        if time not in get_args(Time):
            raise UsageError(f"time='{time}': accepted are {', '.join(map(repr, get_args(Time)))}")
        if time == "adaln_zero" and norm != "pre":
            raise UsageError(f"time='adaln_zero', norm='{norm}': it changes what norms make; give norm='pre'")
        if rotary:
            check_rotary(hidden_width, num_heads)
        if not projections and hidden_width != 2 * self.width:
            raise UsageError(
                f"projections=False, hidden_width={hidden_width}: x_t and the previous estimate go in side by side, so "
                f"hidden_width must be {2 * self.width}, twice the width of the latents"
            )

    def _make_input(
        self,
        hidden_width: int,
        *,
        projections: bool,
        time: Time,
        time_entries: int | None,
        max_length: int | None,
        norm_eps: float,
    ) -> None:
        positions = self.length if max_length is None else max_length
        if positions < self.length:
            raise UsageError(f"max_length={positions}: fewer than the {self.length} positions of the latents")
        if time_entries is not None and time_entries < 2:
            raise UsageError(f"time_entries={time_entries}: need at least 2 steps, or null for any time")
        self.input = nn.Linear(2 * self.width, hidden_width) if projections else nn.Identity()
        self.positions = nn.Parameter(0.02 * torch.randn(positions, hidden_width))
        self.time: nn.Module
        self.adaptive = time == "adaln_zero"
        if time in ("mlp", "adaln_zero"):
            self.time = TimeEmbedding(hidden_width, time_entries)
        else:
            norm = nn.LayerNorm(hidden_width, eps=norm_eps) if time == "sinusoids_norm" else nn.Identity()
            self.time = TimeTable(hidden_width, norm, time_entries)

    def _make_output(self, hidden_width: int, *, projections: bool, pre_norm: bool, norm_eps: float) -> None:
        self.output_norm = nn.LayerNorm(hidden_width, eps=norm_eps) if pre_norm else nn.Identity()
        self.output = nn.Linear(hidden_width, self.width) if projections else nn.Identity()

    @torch.no_grad()
    def _draw_weights(self, std: float) -> None:
        """BERT's initialisation: normal weights and positions, biases 0 (LayerNorms start at 1 and 0 anyway)."""
        self.positions.normal_(0, std)
        for module in self.modules():
            if isinstance(module, nn.Linear) and not isinstance(module, Modulation):
                module.weight.normal_(0, std)
                module.bias.zero_()

    def run_block(self, block: nn.Module, h: Tensor, *read: Tensor, condition: Tensor | None = None) -> Tensor:
        """A block's output (B, L, hidden width); with ``recompute`` its insides are not kept for the backward pass."""
        if self.recompute and torch.is_grad_enabled():
            output: Tensor = checkpoint(block, h, *read, use_reentrant=False, condition=condition)
            return output
        return block(h, *read, condition=condition)

    def enter(self, x_t: Tensor, t: Tensor, x0_prev: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Hidden states (B, L, hidden width) from latents, time and positions; and the condition (B, hidden width) of
        adaptive blocks, which are told the time there and not in the hidden states."""
        x0_prev = torch.zeros_like(x_t) if x0_prev is None else x0_prev
        h = self.input(torch.cat([x_t, x0_prev], dim=-1).to(self.positions.dtype))
        h, time = h + self.positions[: self.length], self.time(t)
        if self.adaptive:
            return h, F.silu(time)
        return h + time.to(h.dtype).unsqueeze(1), None

    def leave(self, h: Tensor) -> Tensor:
        """Estimate (B, L, D) from the last hidden states: projected, or their first D channels."""
        return self.output(self.output_norm(h))[..., : self.width]
