"""A trained model on its validation pictures, for the pages about generation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ladic.captioner import LatentDiffusionCaptioner
from ladic.cli.lightning_cli import parse, spec_of
from ladic.components import Sampler
from ladic.datamodules import CaptionDataModule
from ladic.datamodules.transforms import to_tensor
from ladic.generation import generate
from ladic.guidance import ClassifierFreeGuidance
from ladic.metrics.functional.cider import DocumentFrequencies, cider_d
from ladic.metrics.functional.ngrams import FloatArray
from ladic.metrics.functional.ptb_tokenizer import ptb_tokenize_all
from ladic.precision import fast_autocast
from ladic.rerank import CandidateSelector
from ladic.spec import build
from ladic.types import CaptionBatch


@dataclass(frozen=True)
class Pictures:
    """Pictures with their tokens and references.

    Attributes:
        ids: one each.
        tokens: (I, N, C) of the image encoder.
        captions: the references as written.
        references: and tokenised.
        frequencies: of the whole split's references, so that scores of few pictures are on the scale of all.
    """

    ids: list[int | str]
    tokens: Tensor
    captions: list[list[str]]
    references: list[list[str]]
    frequencies: DocumentFrequencies

    def __len__(self) -> int:
        return len(self.ids)

    def first(self, count: int) -> Pictures:
        """The first few."""
        return self.some(range(count))

    def some(self, rows: Iterable[int]) -> Pictures:
        """Those of some rows."""
        rows = list(rows)
        return replace(
            self,
            ids=[self.ids[row] for row in rows],
            tokens=self.tokens[rows],
            captions=[self.captions[row] for row in rows],
            references=[self.references[row] for row in rows],
        )

    def cider(self, captions: list[str], references: list[list[str]] | None = None) -> FloatArray:
        """CIDEr-D of one caption for each picture."""
        return cider_d(ptb_tokenize_all(captions), references or self.references, self.frequencies).per_image


class TrainedModel:
    """The captioner of a run, and the data of the configuration it is named for.

    Args:
        run: folder; ``configs/<its name>.yaml`` is the configuration.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.captioner = LatentDiffusionCaptioner.load_from_checkpoint(run)
        self.guided = self.captioner.drop_image > 0
        config = parse(["-c", f"configs/{run.name}.yaml"])
        self.data = build(spec_of(config.data), CaptionDataModule)

    def pictures(self, count: int) -> Pictures:
        """The first pictures of the validation split."""
        source = self.data.split("val")
        references = [ptb_tokenize_all(source.captions(row)) for row in range(len(source))]
        rows = range(min(count, len(source)))
        tokens = []
        for part in batches(rows, 32):
            images = torch.stack([to_tensor(source.image(row), self.captioner.preprocess) for row in part])
            with torch.inference_mode():
                tokens.append(self.captioner.image_encoder(images).float().clone())
        return Pictures(
            [source.image_id(row) for row in rows],
            torch.cat(tokens),
            [source.captions(row) for row in rows],
            [references[row] for row in rows],
            DocumentFrequencies.from_references(references),
        )

    @cached_property
    def training_frequencies(self) -> DocumentFrequencies:
        """Of the training captions: what a selector may know."""
        source = self.data.split("train")
        return DocumentFrequencies.from_references([ptb_tokenize_all(source.captions(i)) for i in range(len(source))])

    @cached_property
    def frequencies(self) -> Path:
        """The same as a file in the run's folder, made anew by each model of it."""
        file = self.run / "training_frequencies.json.gz"
        self.training_frequencies.save(file)
        return file

    @torch.no_grad()
    def draw(
        self, pictures: Pictures, sampler: Sampler, guidance: ClassifierFreeGuidance, candidates: int, batch: int = 128
    ) -> tuple[list[list[str]], int]:
        """Candidates for each picture, and the NFE that one took."""
        captioner = self.captioner
        parts = {**captioner.parts(), "sampler": sampler, "guidance": guidance}
        drawn, nfe = [], 0
        for rows in batches(range(len(pictures)), max(1, batch // candidates)):
            part = pictures.some(rows)
            with fast_autocast():
                null = captioner.null_context(part.tokens)
                out = generate(part.tokens, null, part.ids, num_candidates=candidates, **parts)
            drawn += out.candidates
            nfe = out.nfe
        return drawn, nfe

    @torch.no_grad()
    def choose(
        self, pictures: Pictures, candidates: list[list[str]], selector: CandidateSelector, batch: int = 16
    ) -> tuple[list[str], float]:
        """A caption for each picture, and the mean NFE that choosing took."""
        chosen: list[str] = []
        spent: list[int] = []
        for rows in batches(range(len(pictures)), batch):
            part = pictures.some(rows)
            rows_of: CaptionBatch = {"image_id": part.ids, "image_tokens": part.tokens}
            with fast_autocast():
                scores, nfe = self.captioner.judge(rows_of, [candidates[row] for row in rows], selector)
            chosen += [candidates[row][own.index(max(own))] for row, own in zip(rows, scores, strict=True)]
            spent += nfe
        return chosen, float(np.mean(spent))


def batches(rows: range, size: int) -> Iterator[range]:
    """A range in pieces."""
    for start in range(rows.start, rows.stop, size):
        yield range(start, min(start + size, rows.stop))
