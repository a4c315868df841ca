"""Choosing by the model's own judgement: the candidate it denoises best in view of the image."""

from __future__ import annotations

import math

from ladic.errors import UsageError
from ladic.rerank.base import CandidateSelector, Evidence
from ladic.rerank.mbr import MinimumBayesRiskSelector


class ReconstructionSelector(CandidateSelector):
    """Another selector's score less the model's losses when it denoises the candidate again.

    score = selector(candidate) - weight * words - latent_weight * latents, see ``ladic.reconstruction``. Sampling
    makes mistakes that the model itself sees when it looks at the finished caption. Costs len(times) * draws
    evaluations for each different caption of the shortlist, counted as ``selection_nfe``.

    Args:
        selector: whose scores are added and make the shortlist; minimum Bayes risk if not given.
        weight: of the cross-entropy a position.
        latent_weight: of the latent's distance a position.
        shortlist: candidates that are looked at, the best by ``selector``; None means all.
        times: noise levels.
        draws: noises at each level.

    Raises:
        UsageError: for numbers out of range.
    """

    reconstructs = True

    def __init__(
        self,
        selector: CandidateSelector | None = None,
        weight: float = 1.0,
        latent_weight: float = 0.0,
        shortlist: int | None = None,
        times: tuple[float, ...] = (0.35, 0.5, 0.65),
        draws: int = 4,
    ) -> None:
        if not times or not all(0 < t <= 1 for t in times):
            raise UsageError(f"ReconstructionSelector.times={list(times)}: at least one noise level, each in (0, 1]")
        for name, value in (("draws", draws), ("shortlist", shortlist)):
            if value is not None and value < 1:
                raise UsageError(f"ReconstructionSelector.{name}={value}: need at least 1")
        self.selector = selector or MinimumBayesRiskSelector()
        self.weight, self.latent_weight, self.shortlist = weight, latent_weight, shortlist
        self.times, self.draws = tuple(times), draws

    def scores(self, candidates: list[list[str]], evidence: Evidence) -> list[list[float]]:
        if evidence.reconstruct is None:
            raise UsageError("ReconstructionSelector: needs the model to choose; it can't choose among captions alone")
        scores = self.selector.scores(candidates, evidence)
        pairs = [
            (row, caption)
            for row, (captions, own) in enumerate(zip(candidates, scores, strict=True))
            if len(set(captions)) > 1  # else there is nothing to choose
            for caption in self._best(captions, own)
        ]
        if not pairs:
            return scores
        words, latents = evidence.reconstruct(
            [row for row, _ in pairs], [caption for _, caption in pairs], self.times, self.draws
        )
        losses = (self.weight * words + self.latent_weight * latents).tolist()
        cost = dict(zip(pairs, losses, strict=True))
        return [
            [
                score - cost.get((row, caption), math.inf) if len(set(captions)) > 1 else score
                for caption, score in zip(captions, own, strict=True)
            ]
            for row, (captions, own) in enumerate(zip(candidates, scores, strict=True))
        ]

    def _best(self, captions: list[str], scores: list[float]) -> list[str]:
        """Different captions, at most ``shortlist``, best first."""
        order = sorted(range(len(captions)), key=lambda index: -scores[index])
        return list(dict.fromkeys(captions[index] for index in order))[: self.shortlist]
