"""Any scheduler of the library ``diffusers`` as a sampler."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from ladic.components.samplers.base import Evaluations, Sampler
from ladic.errors import UsageError
from ladic.types import DrawFn, ScheduleLike

ENTRIES = 1000


class DiffusersSampler(Sampler):
    """Steps with a scheduler of ``diffusers``, which is given our noise schedule as a table of 1000 and told x0.

    Entry k of the table is alpha_bar((k + 1) / 1000). The last estimate is the answer, as with our own samplers. A
    scheduler that draws noise gets a generator for every row, seeded by that row's own noise.

    Needs ``pip install 'ladic[diffusers]'``.

    Args:
        scheduler: name of a class there that takes ``prediction_type="sample"`` and ``trained_betas``.
        num_steps: the scheduler's steps; some evaluate twice a step.
        options: more constructor arguments of the scheduler.

    Raises:
        UsageError: without the library, for an unknown class or option, or for one that can't be told x0.
    """

    def __init__(
        self,
        scheduler: str = "DPMSolverMultistepScheduler",
        num_steps: int = 10,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(num_steps)
        if num_steps > ENTRIES:
            raise UsageError(
                f"num_steps={num_steps}: diffusers gets a table of {ENTRIES} entries; take at most as many"
            )
        self.scheduler, self.options = scheduler, dict(options or {})
        self._class = scheduler_class(scheduler)
        accepted = inspect.signature(self._class.__init__).parameters
        lacking = [name for name in ("prediction_type", "trained_betas", "num_train_timesteps") if name not in accepted]
        if lacking:
            raise UsageError(
                f"DiffusersSampler.scheduler={scheduler}: it takes no {lacking[0]}; DDIMScheduler, "
                "DPMSolverMultistepScheduler, EulerDiscreteScheduler and UniPCMultistepScheduler do"
            )
        unknown = [name for name in self.options if name not in accepted]
        if unknown:
            raise UsageError(
                f"DiffusersSampler.options: {scheduler} has no '{unknown[0]}'; it has {', '.join(accepted)}"
            )

    def step(self, x_t: Tensor, x0: Tensor, t: Tensor, s: Tensor, schedule: ScheduleLike, draw: DrawFn) -> Tensor:
        raise AssertionError("a scheduler of diffusers keeps state: walk goes all the way, and asks for no single step")

    def times(self, schedule: ScheduleLike) -> Tensor:
        steps = self._built(schedule, "cpu").timesteps.double()
        return torch.cat([(steps + 1) / ENTRIES, steps.new_zeros(1)]).float()

    def walk(self, ask: Evaluations, x_t: Tensor, times: Tensor, schedule: ScheduleLike, draw: DrawFn) -> Tensor:
        scheduler = self._built(schedule, x_t.device)
        steps = scheduler.timesteps
        arguments = inspect.signature(scheduler.step).parameters
        extra = {"generator": row_generators(draw())} if "generator" in arguments else {}
        if not torch.equal(times, self.times(schedule)[: len(times)]):
            raise UsageError("DiffusersSampler: its walk starts at the top; BackAndRefine takes it with skip=0")
        x, x0 = x_t * scheduler.init_noise_sigma, x_t
        for index in range(len(times) - 1):
            x0 = ask(scheduler.scale_model_input(x, steps[index]).to(x_t.dtype), times[index])
            x = scheduler.step(x0, steps[index], x, **extra).prev_sample
        if len(times) == len(steps) + 1:
            return x0
        return scheduler.scale_model_input(x, steps[len(times) - 1]).to(x_t.dtype)

    def _built(self, schedule: ScheduleLike, device: torch.device | str) -> Any:
        """A fresh scheduler: it keeps state from step to step."""
        entries = torch.arange(1, ENTRIES + 1, dtype=torch.float64) / ENTRIES
        alpha_bar = schedule.alpha_bar(entries).double().clamp_min(1e-8)
        if (schedule.sigma(entries).double().square() + alpha_bar - 1).abs().max() > 1e-3:
            raise UsageError(
                f"DiffusersSampler: {type(schedule).__name__} stretches its noise in sampling, of which the table that "
                "diffusers gets can say nothing; give the schedule sampling=1.0, or take DDIMSampler"
            )
        betas = 1 - alpha_bar / torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
        scheduler = self._class(
            num_train_timesteps=ENTRIES,
            trained_betas=betas.clamp(1e-8, 0.999999).numpy(),
            **{**sensible(self._class), **self.options, "prediction_type": "sample"},
        )
        scheduler.set_timesteps(self.num_steps, device=device)
        return scheduler


def scheduler_class(name: str) -> Any:
    """The class of that name in ``diffusers``."""
    try:
        import diffusers
    except ImportError as error:
        raise UsageError(f"DiffusersSampler needs diffusers ({error}): pip install 'ladic[diffusers]'") from error
    found = getattr(diffusers, name, None)
    if not (isinstance(found, type) and issubclass(found, diffusers.SchedulerMixin)):
        raise UsageError(f"DiffusersSampler.scheduler={name}: diffusers has no such scheduler; DDIMScheduler is one")
    return found


def sensible(scheduler: Any) -> dict[str, Any]:
    """Defaults that suit latents instead of pixels: nothing is clipped to [-1, 1], and steps begin at the noisiest."""
    ours = {"clip_sample": False, "timestep_spacing": "trailing"}
    accepted = inspect.signature(scheduler.__init__).parameters
    return {name: value for name, value in ours.items() if name in accepted}


def row_generators(noise: Tensor) -> list[torch.Generator]:
    """A generator for each row of noise (B, L, D), seeded by the row, so that rows stay independent of their batch."""
    bits = noise[:, 0, :2].float().cpu().contiguous().view(torch.int32)
    return [torch.Generator().manual_seed((first << 31) ^ (second & 0x7FFFFFFF)) for first, second in bits.tolist()]
