"""What the parts hand to each other: dataclasses and protocols, no behaviour.

Shapes, everywhere: B batch, L caption positions, D latent width, N image tokens, C encoder width, V vocabulary.
Time t runs from 0 (clean) to 1 (noise).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NotRequired, Protocol, TypedDict

import torch
from torch import Tensor

from ladic.errors import UsageError


@dataclass(frozen=True)
class ImagePreprocess:
    """How an image encoder wants its pictures.

    Attributes:
        size: height and width in pixels.
        mean: per channel, subtracted from values in [0, 1].
        std: per channel, divided by.
        interpolation: "bicubic" or "bilinear".
        resize: "squash" makes a square of the picture, as BLIP and LaDiC do; "crop" scales its shorter side to ``size /
            crop_share`` and takes the middle, as most classifiers do.
        crop_share: in (0, 1], see ``resize``.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    resize: str = "squash"
    crop_share: float = 1.0

    def __post_init__(self) -> None:
        if self.resize not in ("squash", "crop"):
            raise UsageError(f"resize='{self.resize}': accepted are 'squash' and 'crop'")


@dataclass(frozen=True)
class TokenBatch:
    """Tokenised captions: ``input_ids`` (B, L) int64 and ``attention_mask`` (B, L), 1 on real tokens."""

    input_ids: Tensor
    attention_mask: Tensor


class CaptionBatch(TypedDict):
    """One batch from a datamodule.

    Attributes:
        image: (B, 3, H, W) preprocessed pixels; or, from a feature cache, ``image_tokens`` (B, N, C).
        image_id: one identifier per row; seeds the row's noise and keys its scores.
        input_ids, attention_mask: (B, L), in training.
        references: the captions each row is scored against, in evaluation.
        caption: each row's first caption as training would see it, for the losses that validation logs.
    """

    image_id: list[int | str]
    image: NotRequired[Tensor]
    image_tokens: NotRequired[Tensor]
    input_ids: NotRequired[Tensor]
    attention_mask: NotRequired[Tensor]
    references: NotRequired[list[list[str]]]
    caption: NotRequired[list[str]]


class CaptionOutput(TypedDict):
    """What a validation, test or predict step returns: ``captions[i]`` belongs to ``image_id[i]``.

    Attributes:
        image_id, captions: one of each per row.
        nfe: network evaluations spent on each candidate (an image has the captioner's ``rows`` of them), as they were
            counted; or one such number for each image.
        selection_nfe: network evaluations that choosing among an image's candidates took, for each image.
    """

    image_id: list[int | str]
    captions: list[str]
    nfe: int | list[int]
    selection_nfe: NotRequired[list[int]]


@dataclass(frozen=True)
class Candidates:
    """Captions for a batch of images, of which one of each is chosen.

    Attributes:
        captions: of each image.
        scores: of each of them; the higher the better.
        nfe: network evaluations spent on each sample of an image, as they were counted, for each image.
        selection_nfe: and on choosing among them.
    """

    captions: list[list[str]]
    scores: list[list[float]]
    nfe: list[int]
    selection_nfe: list[int]

    @property
    def chosen(self) -> list[str]:
        """The caption of each image that has the highest score, the first of them."""
        return [own[scores.index(max(scores))] for own, scores in zip(self.captions, self.scores, strict=True)]


class CaptionerLike(Protocol):
    """What a datamodule asks of the model it feeds: how pictures are prepared and captions become token ids."""

    @property
    def preprocess(self) -> ImagePreprocess: ...

    @property
    def device(self) -> torch.device: ...

    def tokenize(self, captions: list[str]) -> TokenBatch: ...

    def token_lengths(self, captions: list[str]) -> list[int]: ...

    def image_tokens(self, batch: CaptionBatch) -> Tensor: ...

    def encoder_fingerprint(self) -> dict[str, str]: ...


class ScheduleLike(Protocol):
    """What a sampler asks of a noise schedule; ``t`` may have any shape, the answer has the same.

    ``entries`` is the length of a schedule's table, None where time is continuous.
    """

    @property
    def entries(self) -> int | None: ...

    def alpha_bar(self, t: Tensor) -> Tensor: ...

    def sigma(self, t: Tensor) -> Tensor: ...

    def add_noise(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class SamplingStep:
    """An evaluation of the denoiser while sampling, for traces.

    Attributes:
        index: number of the evaluation, from 0.
        t: its time.
        x0: (B, L, D) the estimate.
        kept: (B, L) bool, where Back&Refine kept positions after this evaluation and sent the others back to noise; it
            then tells the step a second time, with this filled in.
    """

    index: int
    t: float
    x0: Tensor
    kept: Tensor | None = None


DenoiseFn = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""``denoise(x_t (B,L,D), t (B,), x0_prev (B,L,D) or None) -> x0 (B,L,D)``: guidance is already inside."""

DrawFn = Callable[[], Tensor]
"""``draw() -> (B,L,D)`` standard normal noise, each row from its own image's generator."""

StepFn = Callable[[SamplingStep], None]
"""``on_step(step)`` is called after each evaluation."""

ConfidenceFn = Callable[[Tensor], Tensor]
"""``confidence(x0 (B,L,D)) -> (B,L)``: probability of the likeliest word at each position."""
