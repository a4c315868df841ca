"""Classifier-free guidance and self-conditioning, closed into one ``denoise(x_t, t, x0_prev)``.

Ho & Salimans 2022; paper §3.3: x0 = (1 + w) f(x_t, image, t) - w f(x_t, null, t).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ladic.components.denoisers.base import Context, Denoiser
from ladic.errors import UsageError
from ladic.targets import Target


@dataclass(frozen=True)
class ClassifierFreeGuidance:
    """How far the estimate is pushed away from what the model says without the image.

    Args:
        scale: 1 + w. 1 is no guidance and one network pass a step; the paper's w = 1 is a scale of 2.
        start: guidance acts only while t <= start (Kynkäänniemi et al. 2024).
        stop: and while t >= stop.
        time_difference: the network is told min(1, t + time_difference) (asymmetric time intervals, Chen et al. 2022,
            "Analog Bits", §3.3); the released code tells it 5 of 999 steps more, 0.005005.
        rescale: how far the guided estimate is brought back to the spread that the one with the image has, from 0 (not
            at all) to 1 (Lin et al. 2024, "Common Diffusion Noise Schedules", eq. 15 and 16).
    """

    scale: float = 2.0
    start: float = 1.0
    stop: float = 0.0
    time_difference: float = 0.0
    rescale: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale):
            raise UsageError(f"guidance scale={self.scale}: need a finite number, 1 for no guidance")
        if not 0 <= self.stop <= self.start <= 1:
            raise UsageError(f"guidance start={self.start}, stop={self.stop}: need 0 <= stop <= start <= 1")
        if not 0 <= self.time_difference <= 1:
            raise UsageError(f"guidance time_difference={self.time_difference}: need 0 <= time_difference <= 1")
        if not 0 <= self.rescale <= 1:
            raise UsageError(f"guidance rescale={self.rescale}: need 0 <= rescale <= 1")

    def active(self, t: Tensor | float) -> bool:
        """Whether a second, image-free pass is needed at time t (a scalar). Only an interval has to look at it."""
        if self.scale == 1 or (self.stop == 0 and self.start == 1):
            return self.scale != 1
        slack = 1e-6  # t is a float32: 0.6 comes as 0.60000002 and still belongs to an interval that starts there
        return self.stop - slack <= float(t) <= self.start + slack


class GuidedDenoiser:
    """``denoise(x_t (B,L,D), t (B,), x0_prev) -> x0``; every row is at the same time.

    Both passes of a guided step are one doubled batch. ``nfe`` counts network evaluations per sample, as they happen.

    Args:
        denoiser: the network.
        context: of the B images, or of fewer where the network shares contexts.
        null: context of "no image", one row; None will do where the scale is 1.
        guidance: scale and interval.
        self_conditioning: whether the previous (guided) estimate is fed back.
        target: what the network is asked for, made into the clean latent here; the clean latent itself if None.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        context: Context,
        null: Context | None,
        guidance: ClassifierFreeGuidance,
        self_conditioning: bool = True,
        target: Target | None = None,
    ) -> None:
        self.denoiser, self.context, self.guidance, self.target = denoiser, context, guidance, target
        self.self_conditioning = self_conditioning
        self.both = context
        if guidance.scale != 1:
            assert null is not None, "guidance needs a context of no image"
            self.both = denoiser.context_of_guided(context, null)
        self.nfe = 0

    def __call__(self, x_t: Tensor, t: Tensor, x0_prev: Tensor | None) -> Tensor:
        if not self.self_conditioning:
            x0_prev = None
        elif x0_prev is None:
            x0_prev = torch.zeros_like(x_t)  # what None means: steps of one kind compile once
        told = (t + self.guidance.time_difference).clamp_max(1.0) if self.guidance.time_difference else t
        if not self.guidance.active(t[0]):
            self.nfe += 1
            return self._x0(self.denoiser(x_t, told, self.context, x0_prev), x_t, t)
        self.nfe += 2
        doubled = None if x0_prev is None else torch.cat([x0_prev, x0_prev])
        both = self.denoiser(torch.cat([x_t, x_t]), torch.cat([told, told]), self.both, doubled)
        with_image, without = (self._x0(output, x_t, t) for output in both.chunk(2))
        guided = without + self.guidance.scale * (with_image - without)
        if not self.guidance.rescale:
            return guided
        spread = with_image.std((1, 2), keepdim=True) / guided.std((1, 2), keepdim=True).clamp_min(1e-6)
        return guided * (self.guidance.rescale * spread + 1 - self.guidance.rescale)

    def _x0(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        output = output.to(x_t.dtype)
        return output if self.target is None else self.target.to_x0(output, x_t, t)
