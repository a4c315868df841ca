"""CLIPScore and RefCLIPScore as a torchmetrics class; the formulas are in ``functional/clip_score.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from ladic.metrics.caption_metric import CaptionMetric, as_tensors
from ladic.metrics.functional.clip_score import clip_score, ref_clip_score
from ladic.metrics.functional.jars import Unavailable
from ladic.metrics.functional.mean import mean
from ladic.metrics.functional.ngrams import FloatArray

PROMPT = "A photo depicts "


class ClipLike(Protocol):
    """What CLIPScore asks of a model: features (B, D) of images and of texts."""

    def image_features(self, images: Sequence[Image]) -> FloatArray: ...

    def text_features(self, texts: Sequence[str]) -> FloatArray: ...


class ClipFeatures:
    """OpenAI's CLIP ViT-B/32 through open_clip, in single precision.

    Args:
        model: an open_clip architecture.
        pretrained: an open_clip tag or the path of a checkpoint.
        device: where it runs.

    Raises:
        Unavailable: when the weights can't be had.
        ValueError: without ``pretrained``: open_clip would go on with random weights and say nothing.
    """

    def __init__(
        self,
        model: str = "ViT-B-32-quickgelu",
        pretrained: str = "openai",
        device: str | torch.device = "cpu",
    ) -> None:
        import open_clip

        if not pretrained:
            raise ValueError("CLIPScore needs trained weights: pretrained is an open_clip tag or a checkpoint's path")
        try:
            network, _, preprocess = open_clip.create_model_and_transforms(model, pretrained=pretrained, device=device)
        except (OSError, RuntimeError, ValueError) as error:
            first = str(error).strip().splitlines()[0]
            raise Unavailable(
                f"CLIPScore needs the weights '{pretrained}' of {model}, an open_clip tag or a local file: {first}"
            ) from error
        self.network = network.eval().requires_grad_(False)
        self.preprocess = preprocess
        self.tokenizer = open_clip.get_tokenizer(model)
        self.device = torch.device(device)

    @torch.no_grad()
    def image_features(self, images: Sequence[Image]) -> FloatArray:
        batch = torch.stack([self.preprocess(image.convert("RGB")) for image in images])
        return self.network.encode_image(batch.to(self.device)).double().cpu().numpy()

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> FloatArray:
        return self.network.encode_text(self.tokenizer(list(texts)).to(self.device)).double().cpu().numpy()


class CLIPScore(CaptionMetric):
    """Mean over images of "CLIPScore" and "RefCLIPScore" (Hessel et al. 2021).

    Features are taken in ``update``, where the pictures are; the scores of images that came twice count once.

    Args:
        clip: where features come from; ``ClipFeatures()`` when first needed if None.
        kwargs: for ``torchmetrics.Metric``.
    """

    def __init__(self, clip: ClipLike | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.clip = clip

    def update(  # type: ignore[override]
        self,
        captions: Sequence[str],
        references: Sequence[Sequence[str]],
        image_id: Sequence[int | str] | Tensor,
        images: Sequence[Image],
    ) -> None:
        """Add a batch: (B) captions, for each its references, its image id and its picture."""
        if len(images) != len(captions):
            raise ValueError(f"{len(images)} images and {len(captions)} captions: a batch needs one of each")
        if self.clip is None:
            self.clip = ClipFeatures(device=self.device)
        seen = self.clip.image_features(images)
        said = self.clip.text_features([PROMPT + caption for caption in captions])
        written = self.clip.text_features([PROMPT + text for refs in references for text in refs])
        ends = np.cumsum([len(refs) for refs in references])[:-1]
        by_image, by_both = clip_score(seen, said), ref_clip_score(seen, said, np.split(written, ends))
        pairs = zip(by_image.tolist(), by_both.tolist(), strict=True)
        self._append(captions, references, image_id, [{"CLIPScore": a, "RefCLIPScore": b} for a, b in pairs])

    def compute(self) -> dict[str, Tensor]:
        numbers = self.store().numbers.values()
        return as_tensors({name: mean(each[name] for each in numbers) for name in ("CLIPScore", "RefCLIPScore")})
