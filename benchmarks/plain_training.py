"""The released code's training step, written plainly: the baseline of ``benchmarks.training_step``.

From shared/reference/released_code.md, D1 to D4, on our modules and weights: the ViT reads the pictures in every pass
of the network, again for those that stand for no image; keys and values are made anew in each; the pass of the earlier
estimate is of the whole batch and builds a graph that is dropped. Attention is our fused one, where the released code's
is written out.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ladic.captioner import LatentDiffusionCaptioner
from ladic.draws import StepDraws
from ladic.types import TokenBatch


def plain_loss(model: LatentDiffusionCaptioner, images: Tensor, text: TokenBatch, draws: StepDraws) -> Tensor:
    """Loss of a batch, a scalar with a graph.

    Args:
        model: the parts.
        images: (B, 3, H, W).
        text: of the captions.
        draws: what is random; of ``conditioned`` matters only whether it is empty, the coin of the whole batch.
    """
    space, denoiser, schedule, t = model.latent_space, model.denoiser, model.noise_schedule, draws.times
    x0 = space.encode(text.input_ids, text.attention_mask)
    x_t = schedule.add_training_noise(x0, t, draws.noise)
    schedule.add_training_noise(x0, torch.full_like(t, 1 / 999), draws.noise)  # x_1: made there too, and never used
    images = images * (~draws.dropped).view(-1, 1, 1, 1)
    estimate = None
    if len(draws.conditioned):
        estimate = denoiser(x_t, t, denoiser.context(model.image_encoder(images)), None).detach()
    estimate = denoiser(x_t, t, denoiser.context(model.image_encoder(images)), estimate)
    targets = space.targets(text.input_ids, text.attention_mask)
    words = F.cross_entropy(space.decode(estimate).flatten(0, 1), targets.flatten())
    return (estimate - x0).norm(dim=-1).mean() + 0.2 * words


def plain_optimizer(model: LatentDiffusionCaptioner) -> torch.optim.Optimizer:
    """AdamW over everything that is trained, weight decay on all of it, parameter by parameter (D4)."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trained, lr=5e-5, weight_decay=0.01, foreach=False, fused=False)
