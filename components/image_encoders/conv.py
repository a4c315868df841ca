"""A small convolutional encoder for where no pretrained one is at hand: trained here, or with the captioner."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ladic.components.image_encoders.base import ImageEncoder
from ladic.errors import UsageError
from ladic.spec import absolute
from ladic.types import ImagePreprocess

SHIPPED = Path(__file__).parent / "weights"


class ConvEncoder(ImageEncoder):
    """Strided 3x3 convolutions, then one token for each cell of the last map, with a learned position.

    Stage i halves the side and has ``channels[i]`` channels: convolution, group norm, GELU, and a residual
    convolution. Group norm, because no statistic may cross the samples of a batch.

    Args:
        image_size: side of the picture in pixels, a multiple of 2^stages.
        channels: channels of each stage; the last is the width of the tokens.
        weights: safetensors file from ``ladic pretrain-image``; "shapes" are the ones shipped for the drawn scenes of
            ``ShapesDataModule``, trained on its captions alone.
        frozen: no gradients, always in eval mode; False lets the captioner's training go on with it.
    """

    def __init__(
        self,
        image_size: int = 64,
        channels: tuple[int, ...] = (48, 96, 160),
        weights: str | None = None,
        frozen: bool = True,
    ) -> None:
        super().__init__()
        if not channels or min(channels) < 1:
            raise UsageError(f"channels={list(channels)}: need one stage or more, each of at least 1 channel")
        cells, rest = divmod(image_size, 2 ** len(channels))
        if rest or cells < 1:
            raise UsageError(
                f"image_size={image_size}: must be a multiple of {2 ** len(channels)} for {len(channels)} stages"
            )
        self.preprocess = ImagePreprocess(
            image_size, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bilinear"
        )
        self.width, self.num_tokens = channels[-1], cells**2
        stages, inputs = [], 3
        for outputs in channels:
            stages.append(ConvStage(inputs, outputs))
            inputs = outputs
        self.stages = nn.Sequential(*stages)
        self.positions = nn.Parameter(0.02 * torch.randn(self.num_tokens, self.width))
        if weights is not None:
            self._load(weights)
        self.frozen = frozen
        if frozen:
            self.freeze()

    def _load(self, weights: str) -> None:
        shipped = SHIPPED / f"{weights}.safetensors"
        file = shipped if shipped.is_file() else Path(weights)
        if not file.is_file():
            names = ", ".join(sorted(path.stem for path in SHIPPED.glob("*.safetensors")))
            raise UsageError(f"weights='{weights}': no such file; give one from `ladic pretrain-image`, or {names}")
        try:
            tensors = load_file(file)
        except SafetensorError as error:
            raise UsageError(
                f"weights='{weights}': not a safetensors file ({error}); make it again with `ladic pretrain-image`"
            ) from error
        own = self.state_dict()
        for name, value in own.items():
            if name not in tensors or tensors[name].shape != value.shape:
                raise UsageError(
                    f"weights='{weights}': made for other sizes ({name}); give its image_size and channels"
                )
        self.load_state_dict({name: tensors[name].float() for name in own})

    def checkpoint_args(self) -> dict[str, Any]:
        return {**super().checkpoint_args(), "weights": None}

    def frozen_source(self) -> dict[str, Any] | None:
        weights = self.__dict__["_init_args"]["weights"]
        if not self.frozen or weights is None:
            return None
        return {"weights": weights if (SHIPPED / f"{weights}.safetensors").is_file() else absolute(weights)}

    def encode(self, images: Tensor) -> Tensor:
        return self.stages(images).flatten(2).transpose(1, 2) + self.positions


class ConvStage(nn.Module):
    """Halves the side: (B, I, H, W) to (B, O, H/2, W/2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        groups = math.gcd(max(1, outputs // 16), outputs)
        self.down = nn.Sequential(nn.Conv2d(inputs, outputs, 4, 2, 1), nn.GroupNorm(groups, outputs), nn.GELU())
        self.residual = nn.Sequential(nn.Conv2d(outputs, outputs, 3, 1, 1), nn.GroupNorm(groups, outputs), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return x + self.residual(x)
