"""The contract of an image encoder: pixels in, a sequence of image tokens out."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ladic.spec import Buildable
from ladic.types import ImagePreprocess


class ImageEncoder(Buildable, nn.Module, ABC):
    """Turns pictures into tokens.

    Attributes:
        width: C of the tokens.
        num_tokens: N.
        preprocess: how pictures must be prepared; transforms follow the encoder, never the data set.
        frozen: whether its weights are fixed. A frozen encoder stays in eval mode and runs without gradients.
    """

    width: int
    num_tokens: int
    preprocess: ImagePreprocess
    frozen: bool = True

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Image tokens (B, N, C) of preprocessed pictures (B, 3, H, W)."""

    def forward(self, images: Tensor) -> Tensor:
        """``encode`` where the weights are and in their precision, without gradients where the encoder is frozen.

        Lightning tells a model of its GPU before it moves the weights there, and data is prepared in between.
        """
        for weight in self.parameters():
            images = images.to(weight.device, weight.dtype)
            break
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return self.encode(images)

    def freeze(self) -> None:
        """Fixes the weights; subclasses call this at the end of their constructor when ``frozen`` is set."""
        self.frozen = True
        self.requires_grad_(False)
        self.eval()

    def fix_unused(self, tokens: Tensor) -> None:
        """Fixes the weights that ``tokens``, made with gradients, don't depend on.

        Models of other libraries have such, and data-parallel training stops at a weight that gets no gradient.
        """
        weights = [weight for weight in self.parameters() if weight.requires_grad]
        gradients = torch.autograd.grad(tokens.sum(), weights, allow_unused=True)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.requires_grad_(gradient is not None)

    def train(self, mode: bool = True) -> ImageEncoder:
        """A frozen encoder stays in eval mode whatever the model around it does."""
        return super().train(mode and not self.frozen)
