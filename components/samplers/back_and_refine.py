"""Back&Refine (paper §3.4, Table 4 and appendix A.5): doubtful words go back to noise, the others help them along."""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor

from ladic.components.samplers.base import Evaluations, Sampler
from ladic.components.samplers.ddim import DDIMSampler
from ladic.errors import UsageError
from ladic.types import ConfidenceFn, DenoiseFn, DrawFn, ScheduleLike, StepFn


class BackAndRefine(Sampler):
    """Walks with another sampler down to ``at``, renews the least confident positions with noise, and starts again.

    Confidence is the probability of the likeliest word at a position. What is kept goes on at the noise level it has
    reached, while the network is told t = 1; it may still change (appendix A.5). The evaluations down to ``at`` are
    spent once more for every repeat: 16 instead of 10 with the paper's settings.

    The paper renews l = L/2 positions at t = T/2: the defaults. The branch that lies switched off in the released code
    renews L//3 at the first t < 600 of 1000 and goes on one step below the top:
    ``BackAndRefine(RenoiseSampler(stride=30), at=0.6, drop=1/3, skip=1)``. Positions count with padding among them,
    in both.

    Args:
        sampler: takes the steps; ``DDIMSampler`` if not given.
        at: time of going back; the first step at or below it.
        drop: share of the L positions renewed, rounded down.
        repeats: how often.
        threshold: renew the positions less confident than this instead of a share (§4.6).
        skip: steps left out at the start of every walk but the first.
        forget: whether the estimate that is fed back (self-conditioning) is blanked at renewed positions; the released
            code keeps it.

    Raises:
        UsageError: for numbers out of range.
    """

    def __init__(
        self,
        sampler: Sampler | None = None,
        at: float = 0.5,
        drop: float = 0.5,
        repeats: int = 1,
        threshold: float | None = None,
        skip: int = 0,
        forget: bool = False,
    ) -> None:
        self.sampler = sampler or DDIMSampler()
        if isinstance(self.sampler, BackAndRefine):
            raise UsageError("BackAndRefine.sampler: is BackAndRefine itself; give repeats=2 to go back twice")
        for name, value in (("at", at), ("drop", drop), ("threshold", threshold)):
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"BackAndRefine.{name}={value}: accepted are numbers from 0 to 1")
        if repeats < 1:
            raise UsageError(f"BackAndRefine.repeats={repeats}: need at least 1; without it, use the sampler alone")
        steps = self.sampler.num_steps
        if not 0 <= skip < steps:
            raise UsageError(f"BackAndRefine.skip={skip}: accepted are 0 to {steps - 1}, its sampler has {steps} steps")
        self.at, self.drop, self.repeats, self.threshold = at, drop, repeats, threshold
        self.skip, self.forget = skip, forget

        super().__init__(steps)

    def times(self, schedule: ScheduleLike) -> Tensor:
        """Those of a walk of its sampler."""
        return self.sampler.times(schedule)

    def with_steps(self, num_steps: int) -> Self:
        """The same around a sampler of ``num_steps``."""
        return type(self)(**{**self.__dict__["_init_args"], "sampler": self.sampler.with_steps(num_steps)})

    def step(self, x_t: Tensor, x0: Tensor, t: Tensor, s: Tensor, schedule: ScheduleLike, draw: DrawFn) -> Tensor:
        return self.sampler.step(x_t, x0, t, s, schedule, draw)

    def sample(
        self,
        denoise: DenoiseFn,
        x_t: Tensor,
        schedule: ScheduleLike,
        draw: DrawFn,
        on_step: StepFn | None = None,
        confidence: ConfidenceFn | None = None,
    ) -> Tensor:
        assert confidence is not None, "BackAndRefine decides by confidence"
        ask = Evaluations(denoise, on_step)
        times = self.times(schedule)
        slack = 1e-6  # 0.6 as a float32 is 0.60000002
        turn = min(int((times > self.at + slack).sum()), len(times) - 2)  # the evaluation after which it goes back
        for repeat in range(self.repeats):
            start = self.skip if repeat else 0
            x_t = self.sampler.walk(ask, x_t, times[start : max(turn, start) + 2], schedule, draw)
            assert ask.x0 is not None
            kept = self._kept(confidence(ask.x0))
            ask.tell(kept)
            x_t = torch.where(kept.unsqueeze(-1), x_t, draw())
            if self.forget:
                ask.x0 = ask.x0 * kept.unsqueeze(-1)
        return self.sampler.walk(ask, x_t, times[self.skip :], schedule, draw)

    def _kept(self, confidence: Tensor) -> Tensor:
        """(B, L) bool of confidences (B, L)."""
        if self.threshold is not None:
            return confidence >= self.threshold
        count = math.floor(self.drop * confidence.shape[1] + 1e-6)  # 1/3 of 24 is 8
        dropped = confidence.argsort(dim=1, stable=True)[:, :count]
        return torch.ones_like(confidence, dtype=torch.bool).scatter(1, dropped, False)
