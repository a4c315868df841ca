"""Filling in the blanks of captions: layouts for free blanks, sampling with given words clamped, the text put together.

The clamping itself is in ``ladic.clamping``, the templates in ``ladic.template``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ladic.clamping import ClampedDenoiser, ClampTo, Given, Vocabulary
from ladic.components.denoisers.base import Context, Denoiser
from ladic.components.latent_spaces.base import TextLatentSpace
from ladic.components.noise_schedules.base import NoiseSchedule
from ladic.components.samplers.base import Sampler
from ladic.errors import UsageError
from ladic.generation import SeededNoise, noise_seed
from ladic.guidance import ClassifierFreeGuidance, GuidedDenoiser
from ladic.targets import Target
from ladic.template import Layout, Template


@dataclass(frozen=True)
class Filling:
    """A template filled.

    Attributes:
        caption: whole; given texts as typed.
        fills: the text of each blank.
    """

    caption: str
    fills: tuple[str, ...]


@dataclass(frozen=True)
class Infilling:
    """What came out for a batch of templates.

    Attributes:
        candidates: for each template its fillings: layouts of free blanks times ``num_candidates``.
        nfe: network evaluations spent on each of them.
    """

    candidates: list[list[Filling]]
    nfe: int


@torch.no_grad()
def fill(
    image_tokens: Tensor,
    null: Context | None,
    image_ids: list[int | str],
    templates: list[Template],
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
    clamp: ClampTo = "reencoded",
    longest_blank: int = 4,
    batch_size: int = 256,
) -> Infilling:
    """Fillings of one template for each image.

    Args:
        image_tokens, null, image_ids: as in ``ladic.generation.generate``.
        templates: one per image.
        denoiser, latent_space, schedule, sampler, guidance, self_conditioning, target, seed: the parts, likewise.
        num_candidates: fillings of each layout.
        clamp: what given positions are held at, see ``ladic.clamping``.
        longest_blank: tokens tried in a free blank; each number is a layout.
        batch_size: rows sampled at once, fewer where their keys and values would take more than a gigabyte.

    Raises:
        UsageError: if a template has unknown words or doesn't fit the length.
    """
    if longest_blank < 1 or num_candidates < 1:
        raise UsageError(f"longest_blank={longest_blank}, num_candidates={num_candidates}: need at least 1 of each")
    vocabulary = Vocabulary(latent_space)
    rows: list[tuple[int, Layout, int]] = [
        (index, layout, candidate)
        for index, template in enumerate(templates)
        for layout in template.layouts(latent_space.tokenizer, latent_space.length, longest_blank)
        for candidate in range(num_candidates)
    ]
    context = denoiser.context(image_tokens)
    batch_size = context.rows_at_once(batch_size)
    candidates: list[list[Filling]] = [[] for _ in templates]
    nfe = 0
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        seeds = [noise_seed(seed, image_ids[index], candidate) for index, _, candidate in part]
        source = SeededNoise(seeds, (denoiser.length, denoiser.width), image_tokens.device)
        noise = source.draw()
        images = torch.tensor([index for index, _, _ in part], device=image_tokens.device)
        guided = GuidedDenoiser(denoiser, context.select(images), null, guidance, self_conditioning, target)
        given = Given.of([layout for _, layout, _ in part], image_tokens.device)
        clamped = ClampedDenoiser(guided, given, latent_space, schedule, noise, clamp, vocabulary)
        x0 = sampler.sample(clamped, noise, schedule, source.draw, confidence=clamped.confidence)
        nfe = guided.nfe
        for (index, layout, _), ids in zip(part, clamped.ids(x0).tolist(), strict=True):
            fills = tuple(_text([ids[place] for place in blank], latent_space) for blank in layout.blanks)
            candidates[index].append(Filling(templates[index].filled(list(fills)), fills))
    return Infilling(candidates, nfe)


def _text(ids: list[int], space: TextLatentSpace) -> str:
    text: str = space.tokenizer.decode(ids, clean_up_tokenization_spaces=True)
    return text.strip()
