"""Selectors whose weights belong to the image encoder that they were fitted on."""

from __future__ import annotations

import logging
from abc import abstractmethod

from torch import Tensor

from ladic.errors import UsageError
from ladic.rerank.base import CandidateSelector, Evidence
from ladic.rerank.mbr import MinimumBayesRiskSelector

log = logging.getLogger(__name__)


class EncoderBoundSelector(CandidateSelector):
    """Looks at the image tokens. A subclass defines ``judge``.

    Where the tokens have another width, minimum Bayes risk chooses, and one warning says so: swapping the encoder must
    not end a run.

    Attributes:
        width: C of the tokens that it can read.
        weights: file that it was loaded from, as given.
        fitted_by: the command that makes such a file.
    """

    width: int
    weights: str
    fitted_by: str
    _otherwise: CandidateSelector | None = None

    @abstractmethod
    def judge(self, candidates: list[list[str]], tokens: Tensor) -> list[list[float]]:
        """A number for every candidate, from image tokens (B, N, C), detached and in float32."""

    def scores(self, candidates: list[list[str]], evidence: Evidence) -> list[list[float]]:
        tokens = evidence.image_tokens
        if tokens is None:
            name = type(self).__name__
            raise UsageError(f"{name}: needs the picture's tokens; it can't choose among captions alone")
        if tokens.shape[-1] != self.width:
            return self._substitute(tokens.shape[-1]).scores(candidates, evidence)
        return self.judge(candidates, tokens.detach().float())

    def _substitute(self, width: int) -> CandidateSelector:
        if self._otherwise is None:
            self._otherwise = MinimumBayesRiskSelector()
            log.warning(
                "%s: weights '%s' were fitted on image tokens of width %d, this encoder gives %d: minimum "
                "Bayes risk chooses instead; `ladic %s` fits them to this encoder",
                type(self).__name__,
                self.weights,
                self.width,
                width,
                self.fitted_by,
            )
        return self._otherwise
