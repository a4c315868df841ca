"""Captions, fillings and traces of pictures: ``model.caption``, ``model.infill`` and ``model.trace``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch

from ladic.acceleration import padded
from ladic.clamping import ClampTo
from ladic.errors import UsageError
from ladic.infill import fill
from ladic.length_control import LengthRange
from ladic.pictures import ImageLike, Picture, read_pictures
from ladic.rerank import CandidateSelector, ReconstructionSelector, best
from ladic.rerank import diverse as varied
from ladic.template import Template
from ladic.trace import Recorder, Trace
from ladic.types import CaptionBatch

if TYPE_CHECKING:
    from ladic.captioner import LatentDiffusionCaptioner
    from ladic.captioner_base import Captioner


@dataclass(frozen=True)
class Caption:
    """What is said of one picture.

    Attributes:
        image: the picture's name.
        caption: the chosen one.
        captions: the ``num_captions`` asked for, best first (fewer where fewer candidates are different).
        candidates: all that were drawn, of a sample all its readings.
        scores: the selector's, of each candidate.
        nfe: network evaluations spent on each sample, counted.
        selection_nfe: and on choosing.
    """

    image: str
    caption: str
    captions: list[str]
    candidates: list[str]
    scores: list[float]
    nfe: int
    selection_nfe: int


@dataclass(frozen=True)
class Infill:
    """A template filled for one picture.

    Attributes:
        image: the picture's name.
        template: as typed.
        caption: the chosen filling, given words to the letter.
        fills: what stands in its blanks.
        candidates: all captions that were tried, with their scores.
        scores: the selector's, of each.
        nfe: network evaluations spent on each, counted.
        selection_nfe: and on choosing.
    """

    image: str
    template: str
    caption: str
    fills: list[str]
    candidates: list[str]
    scores: list[float]
    nfe: int
    selection_nfe: int


class PictureMethods:
    """What a captioner says of pictures."""

    @torch.no_grad()
    def caption(
        self,
        images: ImageLike | Sequence[ImageLike],
        *,
        num_candidates: int | None = None,
        num_captions: int = 1,
        diverse: bool = False,
        length: LengthRange | None = None,
        batch_size: int = 32,
    ) -> list[Caption]:
        """Captions of pictures.

        Args:
            images: one or several: paths, PIL images, or preprocessed tensors (3, size, size).
            num_candidates: samples drawn for each; the model's own number if None.
            num_captions: how many are chosen of them, the best first.
            diverse: choose captions that differ (maximal marginal relevance).
            length: tokens a caption may have.
            batch_size: pictures at a time.

        Raises:
            UsageError: for a picture that can't be read, or numbers that don't fit together.
        """
        model = cast("Captioner", self)
        wanted = model.num_candidates if num_candidates is None else num_candidates
        if num_captions < 1 or wanted * model.readings < num_captions:
            raise UsageError(
                f"num_captions={num_captions}, num_candidates={wanted}: need at least 1 caption and as many candidates"
            )
        pictures = read_pictures(images, model.preprocess)
        results = []
        for start in range(0, len(pictures), batch_size):
            part = pictures[start : start + batch_size]
            whole = padded(part, batch_size) if model.compiled and start else part  # one shape compiles once
            batch = encoded(model, whole)
            found = model.candidates(batch, wanted, length)
            for i, picture in enumerate(part):
                drawn, scores = found.captions[i], found.scores[i]
                pick = varied if diverse else best
                chosen = pick(drawn, scores, num_captions)
                results.append(
                    Caption(picture.name, chosen[0], chosen, drawn, scores, found.nfe[i], found.selection_nfe[i])
                )
        return results


class InfillMethods(PictureMethods):
    """What only a captioner that denoises all positions at once can do: fill blanks, and tell how a caption came."""

    @torch.no_grad()
    def infill(
        self,
        images: ImageLike | Sequence[ImageLike],
        templates: str | Sequence[str],
        *,
        num_candidates: int = 1,
        clamp: ClampTo = "reencoded",
        longest_blank: int = 4,
        selector: CandidateSelector | None = None,
        batch_size: int = 32,
    ) -> list[Infill]:
        """Blanks filled: ``model.infill("photo.jpg", "a ___ holding a ___ in her hand")``.

        Args:
            images: as in ``caption``; one, or as many as templates.
            templates: captions with blanks, ``___`` of any length and ``___{2}`` of two words; one, or one per image.
            num_candidates: fillings drawn for each length that a free blank may have.
            clamp: what given words are held at, see ``ladic.clamping``.
            longest_blank: most tokens in a free blank.
            selector: picks among fillings; the model's own reconstruction if not given.
            batch_size: pictures at a time.

        Raises:
            UsageError: for a template without blanks, with unknown words, or too long.
        """
        model = cast("LatentDiffusionCaptioner", self)
        pictures = read_pictures(images, model.preprocess)
        parsed = [Template.parse(text) for text in ([templates] if isinstance(templates, str) else templates)]
        if not parsed:
            raise UsageError("templates: none given; write one such as 'a ___ on a ___'")
        if not pictures:
            return []
        if len(pictures) != len(parsed):
            if 1 not in (len(pictures), len(parsed)):
                raise UsageError(f"{len(pictures)} images and {len(parsed)} templates: need as many, or one of either")
            many = max(len(pictures), len(parsed))
            pictures, parsed = pictures * (many // len(pictures)), parsed * (many // len(parsed))
        selector = selector or (
            model.selector if isinstance(model.selector, ReconstructionSelector) else ReconstructionSelector(weight=2.0)
        )
        results = []
        for start in range(0, len(pictures), batch_size):
            part, texts = pictures[start : start + batch_size], parsed[start : start + batch_size]
            batch = encoded(model, part)
            tokens = model.image_tokens(batch)
            filled = fill(
                tokens,
                model.null_context(tokens) if model.guidance.scale != 1 else None,
                batch["image_id"],
                texts,
                num_candidates=num_candidates,
                clamp=clamp,
                longest_blank=longest_blank,
                **model.parts(),
            )
            captions = [[filling.caption for filling in fillings] for fillings in filled.candidates]
            scores, spent = model.judge(batch, captions, selector)
            for i, picture in enumerate(part):
                won = filled.candidates[i][scores[i].index(max(scores[i]))]
                results.append(
                    Infill(
                        picture.name,
                        texts[i].text,
                        won.caption,
                        list(won.fills),
                        captions[i],
                        scores[i],
                        filled.nfe,
                        spent[i],
                    )
                )
        return results

    @torch.no_grad()
    def trace(
        self,
        images: ImageLike | Sequence[ImageLike],
        references: str | Sequence[str] | None = None,
        *,
        length: LengthRange | None = None,
    ) -> list[Trace]:
        """What one caption of each picture was at every step; distances to ``references`` too where they are given."""
        model = cast("LatentDiffusionCaptioner", self)
        pictures = read_pictures(images, model.preprocess)
        texts = [references] if isinstance(references, str) else list(references or [])
        if texts and len(texts) != len(pictures):
            raise UsageError(f"{len(pictures)} images and {len(texts)} references: need one for each")
        if not pictures:
            return []
        space, recorder = model.latent_space, Recorder()
        generation = model.generate(encoded(model, pictures), 1, length, recorder)
        latents: list[Any] = [None] * len(pictures)
        if texts:
            tokens = space.tokenize(texts)
            ids, mask = (part.to(model.device) for part in (tokens.input_ids, tokens.attention_mask))
            latents = list(space.encode(ids, mask).float())
        return [
            Trace(
                picture.name,
                generation.candidates[row][0],
                recorder.read(row, space, latents[row]),
                generation.nfe,
                texts[row] if texts else None,
            )
            for row, picture in enumerate(pictures)
        ]


def encoded(model: Captioner, pictures: list[Picture]) -> CaptionBatch:
    """A batch of pictures with their tokens, so that sampling and choosing share one encoding."""
    batch: CaptionBatch = {
        "image_id": [picture.image_id for picture in pictures],
        "image": torch.stack([picture.pixels for picture in pictures]).to(model.device),
    }
    return {**batch, "image_tokens": model.image_tokens(batch)}
