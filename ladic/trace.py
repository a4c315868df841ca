"""What a caption was at every step of its making (paper Figure 9 and appendix A.5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ladic.components.latent_spaces.base import TextLatentSpace
from ladic.pieces import pieces
from ladic.types import SamplingStep


@dataclass(frozen=True)
class TraceStep:
    """One evaluation.

    Attributes:
        index: its number, from 0.
        t: its time.
        caption: the estimate read.
        tokens: word at each of the L positions; "" where it is a special token.
        confidence: probability of each of them.
        to_final: mean squared distance to the last estimate, over positions and features.
        to_true: to the latent of the reference, where there is one.
        kept: where Back&Refine went back after this step, which positions it kept.
    """

    index: int
    t: float
    caption: str
    tokens: list[str]
    confidence: list[float]
    to_final: float
    to_true: float | None = None
    kept: list[bool] | None = None


@dataclass(frozen=True)
class Trace:
    """The making of one caption.

    Attributes:
        image: the picture's name.
        caption: what came out, before any choosing.
        steps: all evaluations, in order.
        nfe: network evaluations, guidance's second ones counted.
        reference: the caption whose latent ``to_true`` is measured to.
    """

    image: str
    caption: str
    steps: list[TraceStep]
    nfe: int
    reference: str | None = None


class Recorder:
    """``on_step`` that remembers what it was told."""

    def __init__(self) -> None:
        self.steps: list[SamplingStep] = []

    def __call__(self, step: SamplingStep) -> None:
        if self.steps and self.steps[-1].index == step.index:
            self.steps.pop()  # told again, with what was kept
        self.steps.append(step)

    @torch.no_grad()
    def read(self, row: int, space: TextLatentSpace, true: Tensor | None = None) -> list[TraceStep]:
        """The steps of one row of the batch.

        Args:
            row: which.
            space: reads the estimates.
            true: (L, D) latent of a reference.
        """
        final = self.steps[-1].x0[row].float()
        return [self._read(step, row, space, final, true) for step in self.steps]

    def _read(
        self, step: SamplingStep, row: int, space: TextLatentSpace, final: Tensor, true: Tensor | None
    ) -> TraceStep:
        x0 = step.x0[row].float()
        confidence, index = space.decode(x0.unsqueeze(0)).float().softmax(-1).max(-1)
        tokenizer = space.tokenizer
        special = set(tokenizer.all_special_ids)
        ids = space.head.vocabulary[index[0]].tolist()
        words = pieces(tokenizer, ids)
        return TraceStep(
            step.index,
            step.t,
            space.to_text(index)[0],
            ["" if i in special else word for i, word in zip(ids, words, strict=True)],
            confidence[0].tolist(),
            float((x0 - final).square().mean()),
            None if true is None else float((x0 - true).square().mean()),
            None if step.kept is None else step.kept[row].tolist(),
        )
