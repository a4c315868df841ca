"""What stands for no image in guidance: its tokens, and what the denoiser keeps of them, made once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from ladic.components.denoisers.base import Context

if TYPE_CHECKING:
    from ladic.captioner import LatentDiffusionCaptioner


class NullImageMethods:
    """The captioner's methods about no image."""

    _zeros: dict[tuple[torch.device, torch.dtype, bool], Tensor]
    _null_context: tuple[tuple[Any, ...], Context] | None

    def null_tokens(self, like: Tensor) -> Tensor:
        """Tokens (1, N, C) that stand for no image, of the sort of ``like`` (B, N, C)."""
        model = cast("LatentDiffusionCaptioner", self)
        if model.null_token is not None:
            return model.null_token.expand(1, like.shape[1], -1).to(like.dtype)
        encoder, size = model.image_encoder, model.preprocess.size
        zeros = torch.zeros(1, 3, size, size, device=like.device)
        if not encoder.frozen:
            return encoder(zeros).to(like.dtype)
        key = (like.device, like.dtype, torch.is_autocast_enabled(like.device.type))
        if key not in self._zeros:  # once for all batches
            with torch.inference_mode(False):  # training may be next to use them
                self._zeros[key] = encoder(zeros)
        return self._zeros[key].to(like.dtype)

    def null_context(self, like: Tensor) -> Context:
        """The denoiser's context of no image, one row; of a model by itself made anew only where weights have changed.

        Under a trainer it is made for every batch: averaged weights come and go there without leaving a trace.

        Args:
            like: (B, N, C), tokens of the sort that the null image's have to be.
        """
        model = cast("LatentDiffusionCaptioner", self)
        weights = None if model._trainer is not None else self._weights()
        if weights is None:
            return self._make_null_context(like)
        device = like.device.type
        state = (like.device, like.dtype, like.shape[1:], torch.is_autocast_enabled(device), *weights)
        if self._null_context is None or self._null_context[0] != state:
            self._null_context = state, self._make_null_context(like)
        return self._null_context[1]

    def _make_null_context(self, like: Tensor) -> Context:
        model = cast("LatentDiffusionCaptioner", self)
        tokens = self.null_tokens(like)
        if model.null_token is not None and model.denoiser.shares_context:
            tokens = tokens[:, :1]  # all are equal, and attention to equal tokens is attention to one of them
        return model.denoiser.context(tokens)

    def forget_null_image(self) -> None:
        """Has tokens and context made anew, after the encoder's weights were replaced."""
        self._zeros.clear()
        self._null_context = None

    def _weights(self) -> list[tuple[int, int]] | None:
        """Where the weights lie that the null image's context depends on, and how often they were changed; None where
        nobody counts that, as of weights made in inference mode.
        """
        model = cast("LatentDiffusionCaptioner", self)
        encoder = [] if model.image_encoder.frozen else list(model.image_encoder.parameters())
        null = [] if model.null_token is None else [model.null_token]
        weights = [*null, *encoder, *model.denoiser.parameters()]
        if any(weight.is_inference() for weight in weights):
            return None
        return [(weight.data_ptr(), weight._version) for weight in weights]
