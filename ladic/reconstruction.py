"""How well the model denoises a given caption in view of an image: its own judgement of the pair.

A caption is encoded, noised to a few levels and estimated again. The two training losses (eq. 2) of that estimate are
terms of the variational bound on log p(caption | image); a diffusion classifier (Li et al. 2023, "Your Diffusion Model
is Secretly a Zero-Shot Classifier", eq. 5) decides by them. All captions of an image meet the same noise, so that
their differences are not drowned by it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ladic.components.denoisers.base import Denoiser
from ladic.components.latent_spaces.base import TextLatentSpace
from ladic.components.noise_schedules.base import NoiseSchedule
from ladic.generation import SeededNoise, noise_seed
from ladic.losses import latent_loss
from ladic.targets import Target


class Reconstruction:
    """Losses of captions on the images of a batch; counts its network evaluations in ``nfe``, a number per image.

    Args:
        image_tokens: (B, N, C).
        image_ids: one per image, seeding its noise.
        denoiser, latent_space, schedule: the model's parts.
        target: what the network was trained to answer; the clean latent if None.
        seed: of the run.
        batch_size: captions denoised at once, fewer where their keys and values would take more than a gigabyte.
    """

    def __init__(
        self,
        image_tokens: Tensor,
        image_ids: list[int | str],
        *,
        denoiser: Denoiser,
        latent_space: TextLatentSpace,
        schedule: NoiseSchedule,
        target: Target | None = None,
        seed: int = 0,
        batch_size: int = 512,
    ) -> None:
        self.image_tokens, self.image_ids, self.seed, self.batch_size = image_tokens, image_ids, seed, batch_size
        self.denoiser, self.latent_space, self.schedule = denoiser, latent_space, schedule
        self.target = target or Target("x0", schedule)
        self.nfe = [0] * len(image_ids)

    @torch.no_grad()
    def __call__(
        self, rows: Sequence[int], captions: Sequence[str], times: Sequence[float], draws: int
    ) -> tuple[Tensor, Tensor]:
        """Mean losses on words (cross-entropy a position) and on latents (norm a position), each (P,).

        Args:
            rows: the image of each of the P captions.
            captions: P of them.
            times: noise levels, each in (0, 1].
            draws: noises at each level.
        """
        device, space = self.image_tokens.device, self.latent_space
        context = self.denoiser.context(self.image_tokens)
        shape = (space.length, space.width)
        noises = [
            SeededNoise([noise_seed(self.seed, f"{image_id}/reconstruct", draw) for image_id in self.image_ids], shape)
            for draw in range(draws)
        ]
        noise = torch.stack([source.draw() for source in noises]).to(device)
        on_words, on_latents = [], []
        size = context.rows_at_once(self.batch_size)
        for start in range(0, len(captions), size):
            chunk = torch.tensor(rows[start : start + size], device=device)
            tokens = space.tokenize(list(captions[start : start + size]))
            ids, mask = tokens.input_ids.to(device), tokens.attention_mask.to(device)
            x0, targets = space.encode(ids, mask).float(), space.targets(ids, mask)
            seen = context.select(chunk)
            words = latents = torch.zeros(len(chunk), device=device)
            for time in times:
                t = torch.full((len(chunk),), float(time), device=device)
                for draw in range(draws):
                    x_t = self.schedule.add_training_noise(x0, t, noise[draw, chunk])
                    estimate = self.target.to_x0(self.denoiser(x_t, t, seen, None), x_t, t)
                    words = words + space.word_losses(estimate, targets)[0].mean(-1)  # without all logits at once
                    latents = latents + latent_loss(estimate, x0)
            on_words.append(words / (len(times) * draws))
            on_latents.append(latents / (len(times) * draws))
        for row in rows:
            self.nfe[row] += len(times) * draws
        return torch.cat(on_words), torch.cat(on_latents)
