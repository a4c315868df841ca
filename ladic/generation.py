"""From image tokens to captions: noise, sampler, decoding, candidates.

A caption depends on its image, its seed and the options alone: the noise of every row comes from a generator of its
own, seeded by (seed, image id, candidate).
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from ladic.components.denoisers.base import Context, Denoiser
from ladic.components.latent_spaces.base import TextLatentSpace
from ladic.components.noise_schedules.base import NoiseSchedule
from ladic.components.samplers.base import Sampler
from ladic.guidance import ClassifierFreeGuidance, GuidedDenoiser
from ladic.length_control import LengthDenoiser, LengthRange
from ladic.postprocess.base import PostProcessor
from ladic.rounding.base import Rounding
from ladic.rounding.denoiser import RoundedDenoiser
from ladic.targets import Target
from ladic.types import DenoiseFn, StepFn

MOST_THREADS, ROWS_EACH = 16, 16
"""Threads that draw noise, and rows that make one worth its while."""


@dataclass(frozen=True)
class Generation:
    """What came out of one batch.

    Attributes:
        candidates: for each image its captions: of each of its ``num_candidates`` samples the R readings of the
            rounding, so that caption i belongs to sample i // R.
        latents: (B * num_candidates, L, D) final estimates, the samples of one image in a row.
        nfe: network evaluations spent on each sample.
    """

    candidates: list[list[str]]
    latents: Tensor
    nfe: int


def generate(
    image_tokens: Tensor,
    null: Context | None,
    image_ids: list[int | str],
    *,
    denoiser: Denoiser,
    latent_space: TextLatentSpace,
    schedule: NoiseSchedule,
    sampler: Sampler,
    guidance: ClassifierFreeGuidance,
    self_conditioning: bool = True,
    target: Target | None = None,
    num_candidates: int = 1,
    seed: int = 0,
    length: LengthRange | None = None,
    rounding: Rounding | None = None,
    postprocess: PostProcessor | None = None,
    on_step: StepFn | None = None,
) -> Generation:
    """Captions for a batch of images.

    Args:
        image_tokens: (B, N, C).
        null: the denoiser's context of "no image", one row; None where there is no guidance.
        image_ids: one per image, seeding its noise.
        denoiser, latent_space, schedule, sampler, guidance: the parts.
        self_conditioning: feed the previous estimate back.
        target: what the network was trained to answer; the clean latent if None.
        num_candidates: samples per image; they share the image's keys and values.
        seed: of the run.
        length: tokens that captions may have; the model decides if None.
        rounding: decides on the words; the likeliest of each position if None.
        postprocess: makes the text; the latent space's own reading if None.
        on_step: told of every evaluation.
    """
    context = denoiser.context_of_candidates(denoiser.context(image_tokens), num_candidates)
    noise = SeededNoise(
        [noise_seed(seed, image_id, candidate) for image_id in image_ids for candidate in range(num_candidates)],
        (denoiser.length, denoiser.width),
        image_tokens.device,
    )
    guided = GuidedDenoiser(denoiser, context, null, guidance, self_conditioning, target)
    within = LengthDenoiser(guided, latent_space, length) if length is not None else None
    denoise: DenoiseFn = within or guided
    rounded = None
    if rounding is not None:
        # One that clamps keeps the lengths itself: words put in before would be as sure to it as all the others.
        denoise = rounded = RoundedDenoiser(guided if rounding.clamp else denoise, latent_space, rounding, within)

    def confidence(x0: Tensor) -> Tensor:
        if rounded is not None:
            x0 = rounded.unrounded(x0)  # of a caption's own latent every word is certain
        return latent_space.decode(x0).float().softmax(-1).amax(-1)

    latents = sampler.sample(denoise, noise.draw(), schedule, noise.draw, on_step, confidence)
    each = num_candidates
    if rounded is not None:
        readings = rounded.readings(latents)
        indices, each = readings.flatten(0, 1), each * readings.shape[1]
    else:
        indices = within.indices(latents) if within is not None else latent_space.decode(latents).argmax(-1)
    captions = postprocess(indices, latent_space) if postprocess is not None else latent_space.to_text(indices)
    rows = [captions[i : i + each] for i in range(0, len(captions), each)]
    return Generation(rows, latents, guided.nfe)


class SeededNoise:
    """Standard normal noise whose rows have generators of their own.

    Drawn on the CPU in float32, so that a seed means the same caption on every device.
    """

    def __init__(self, seeds: list[int], shape: tuple[int, ...], device: torch.device | str = "cpu") -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.shape, self.device = shape, device
        self.gpu = torch.device(device).type == "cuda"
        # A GPU would wait for noise; a CPU has other work for its cores.
        self.threads = max(1, min(os.cpu_count() or 1, MOST_THREADS, len(seeds) // ROWS_EACH)) if self.gpu else 1

    def draw(self) -> Tensor:
        """(B, *shape)."""
        # From pinned memory, for a copy from any other waits until the GPU is through with what came before it.
        noise = torch.empty(len(self.generators), *self.shape, pin_memory=self.gpu)
        inference = torch.is_inference_mode_enabled()  # of this thread

        def share(first: int) -> None:
            with torch.inference_mode(inference):
                self._fill(noise, first)

        if self.threads == 1:
            self._fill(noise, 0)
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                list(pool.map(share, range(self.threads)))
        return noise.to(self.device, non_blocking=True)

    def _fill(self, noise: Tensor, first: int) -> None:
        """Every so many rows, one thread's share."""
        for row in range(first, len(noise), self.threads):
            noise[row].normal_(generator=self.generators[row])


def noise_seed(seed: int, image_id: int | str, candidate: int = 0) -> int:
    """63-bit seed of one candidate of one image, the same on every machine.

    Example:
        >>> noise_seed(0, "a.jpg") == noise_seed(0, "a.jpg", candidate=1)
        False
    """
    digest = hashlib.blake2b(f"{seed}/{image_id}/{candidate}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
