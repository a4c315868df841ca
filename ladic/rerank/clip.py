"""Choosing by CLIP: the candidate whose text lies nearest to the picture."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ladic.errors import UsageError
from ladic.rerank.base import CandidateSelector, Evidence
from ladic.spec import absolute
from ladic.types import ImagePreprocess

if TYPE_CHECKING:
    from ladic.metrics.clip_score import ClipFeatures


class ClipSelector(CandidateSelector):
    """The candidate with the highest CLIPScore (Hessel et al. 2021), by any model of open_clip.

    Sees the picture as the image encoder was given it, a square of its size. Needs pixels: cached features won't do.

    Args:
        model: an open_clip architecture.
        pretrained: an open_clip tag, or the path of a checkpoint.
        device: where it runs.

    Raises:
        UsageError: when first asked, if the weights can't be had.
    """

    def __init__(self, model: str = "ViT-B-32-quickgelu", pretrained: str = "openai", device: str = "cpu") -> None:
        if not pretrained:
            raise UsageError("ClipSelector.pretrained: is empty; give an open_clip tag or a checkpoint's path")
        self.model, self.pretrained, self.device = model, pretrained, device

    def checkpoint_args(self) -> dict[str, Any]:
        """A checkpoint by its whole path, so that it is found from anywhere."""
        return {**super().checkpoint_args(), "pretrained": absolute(self.pretrained)}

    @cached_property
    def clip(self) -> ClipFeatures:
        """The model, loaded when first needed: building a captioner shouldn't."""
        from ladic.metrics.clip_score import ClipFeatures
        from ladic.metrics.functional.jars import Unavailable

        try:
            return ClipFeatures(self.model, self.pretrained, self.device)
        except Unavailable as error:
            raise UsageError(f"ClipSelector: {error}") from error

    def scores(self, candidates: list[list[str]], evidence: Evidence) -> list[list[float]]:
        from ladic.metrics.clip_score import PROMPT
        from ladic.metrics.functional.clip_score import clip_score

        if evidence.images is None or evidence.preprocess is None:
            raise UsageError("ClipSelector: needs pixels; leave out --data.features, or choose with another selector")
        seen = self.clip.image_features(to_pictures(evidence.images, evidence.preprocess))
        scores = []
        for row, captions in zip(seen, candidates, strict=True):
            said = self.clip.text_features([PROMPT + caption for caption in captions])
            scores.append(clip_score(np.repeat(row[None], len(captions), 0), said).tolist())
        return scores


def to_pictures(images: Tensor, preprocess: ImagePreprocess) -> list[Image.Image]:
    """Preprocessed pixels (B, 3, H, W) back to pictures."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocess.mean, preprocess.std))
    pixels = ((images.detach().float().cpu() * std + mean).clamp(0, 1) * 255).round().byte()
    return [Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in pixels]
