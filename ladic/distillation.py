"""A second stage of training: a student that does in 1, 2 or 4 evaluations what a guided teacher does in many.

For n steps the student walks the grid t = 1, 1 - 1/n, ..., 0. In each of its intervals, from t to s, the teacher takes
``substeps`` DDIM steps of its own, with guidance, to x_s. What the student is to answer at t is the clean latent whose
single DDIM step ends there (progressive distillation, Salimans & Ho 2022, appendix G)::

    x0* = (x_s - r x_t) / (signal_s - r signal_t),      r = sigma_s / sigma_t,      and x0* = x_0 where s = 0

with guidance inside x_s, so that the student needs no second pass (Meng et al. 2023). Its words are learned from the
teacher's: the caption of the data set is not what the teacher would say of this noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ladic.components.noise_schedules.base import NoiseSchedule
from ladic.components.samplers.base import signal_and_noise
from ladic.components.samplers.ddim import deterministic_step
from ladic.errors import UsageError
from ladic.features import fingerprint
from ladic.guidance import GuidedDenoiser
from ladic.spec import Buildable, describe
from ladic.time_sampling import UniformTimes

if TYPE_CHECKING:
    from ladic.captioner import LatentDiffusionCaptioner


@dataclass(frozen=True)
class Lesson:
    """What a student sees and should answer.

    Attributes:
        t: (B,) times of its grids.
        x_t: (B, L, D) noisy latents.
        x0: (B, L, D) the answer.
        targets: (B, L) the teacher's words, as indices into the head's vocabulary.
    """

    t: Tensor
    x_t: Tensor
    x0: Tensor
    targets: Tensor


class Teacher(Buildable):
    """A trained captioner that a student of the same latent space learns from.

    Args:
        checkpoint: of the teacher: a file, a run's folder or "hf:OWNER/NAME". A student of its sizes starts from its
            weights, and one of other sizes from its head's.
        scale: of the guidance that the student takes over; the teacher's own by default.
        steps: numbers of steps that the student learns to walk in, each drawn as often.
        substeps: of the teacher in an interval of the student's, two evaluations each where it is guided.

    Raises:
        UsageError: for numbers below 1, or no steps at all.
    """

    def __init__(
        self, checkpoint: str, scale: float | None = None, steps: Sequence[int] = (1, 2, 4), substeps: int = 4
    ) -> None:
        if not steps or min(steps) < 1:
            raise UsageError(f"teacher steps={list(steps)}: need at least one number, all from 1 up")
        if substeps < 1:
            raise UsageError(f"teacher substeps={substeps}: need at least 1")
        self.checkpoint, self.scale, self.steps, self.substeps = checkpoint, scale, tuple(steps), substeps
        self._model: LatentDiffusionCaptioner | None = None

    def load(self) -> LatentDiffusionCaptioner:
        """The teacher, without gradients, read at the first call."""
        from ladic.captioner import LatentDiffusionCaptioner

        if self._model is None:
            self._model = LatentDiffusionCaptioner.load_from_checkpoint(self.checkpoint).requires_grad_(False)
        return self._model

    def check(self, student: LatentDiffusionCaptioner) -> None:
        """A student answers with clean latents, on its teacher's grids, with the image in sight.

        Raises:
            UsageError: for settings that say otherwise.
        """
        schedule = type(student.noise_schedule)
        stretched = schedule.add_training_noise is not NoiseSchedule.add_training_noise
        uniform = isinstance(student.time_sampling, UniformTimes)
        for named, wrong, right in (
            (f"prediction='{student.prediction}'", student.prediction != "x0", "--model.prediction=x0"),
            (f"drop_image={student.drop_image}", student.drop_image > 0, "--model.drop_image=0"),
            (f"loss_weight='{student.loss_weight}'", student.loss_weight != "none", "--model.loss_weight=none"),
            ("time_sampling", not uniform, "--model.time_sampling=UniformTimes"),
            (f"noise_schedule={schedule.__name__}", stretched, "another --model.noise_schedule"),
        ):
            if wrong:
                raise UsageError(f"{named}: not with a teacher, who says what is learned and when; give {right}")

    def prepare(self, student: LatentDiffusionCaptioner) -> list[str]:
        """Hands the student what fits of the teacher's weights, and returns the names of its parts that got none.

        Raises:
            UsageError: if the two have different latents, words, image tokens or noise schedules, or the teacher's
                guidance acts in an interval of times alone.
        """
        teacher = self.load()
        ours, theirs = student.latent_space.normalizer, teacher.latent_space.normalizer
        for name in ("mean", "std"):
            own, other = getattr(ours, name), getattr(theirs, name)
            if own.shape != other.shape or not torch.allclose(own.cpu(), other.cpu()):
                raise UsageError(
                    f"teacher '{self.checkpoint}': its latents have other statistics than the student's; give the "
                    "student the teacher's latent space (--model.latent_space.fitted, layer and length)"
                )
        for name in ("length", "special_at", "special_token", "reassign", "normalize", "scale"):
            own, other = (getattr(each.latent_space, name, None) for each in (student, teacher))
            if own != other:
                raise UsageError(
                    f"teacher '{self.checkpoint}': its latent space has {name}={other}, the student's {own}; give the "
                    f"student --model.latent_space.{name}={other}"
                )
        if _tokens(teacher) != _tokens(student):
            raise UsageError(
                f"teacher '{self.checkpoint}': its image encoder is another one, or has other weights; give the "
                "student the same (--model.image_encoder)"
            )
        if (teacher.guidance.start, teacher.guidance.stop) != (1, 0):  # times of a lesson differ row by row
            raise UsageError(
                f"teacher '{self.checkpoint}': its guidance acts from t = {teacher.guidance.start} to "
                f"{teacher.guidance.stop}; a teacher's has to act at all times (1 to 0)"
            )
        if describe(teacher.noise_schedule) != describe(student.noise_schedule):
            raise UsageError(
                f"teacher '{self.checkpoint}': its noise schedule is another one; give the student the teacher's "
                "(--model.noise_schedule)"
            )
        said, taught = student.latent_space.head.vocabulary, teacher.latent_space.head.vocabulary
        if not torch.equal(said.cpu(), taught.cpu()):  # the lesson's words are numbers of the teacher's
            raise UsageError(
                f"teacher '{self.checkpoint}': its head says {len(taught)} words and the student's {len(said)}, or "
                "others; give the student the teacher's latent space (--model.latent_space.fitted)"
            )
        anew = []
        for name in ("denoiser", "latent_space.head"):
            part, source = student.get_submodule(name), teacher.get_submodule(name).state_dict()
            if {key: value.shape for key, value in part.state_dict().items()} == {
                key: value.shape for key, value in source.items()
            }:
                part.load_state_dict(source)
            else:
                anew.append(name)
        return anew

    @torch.no_grad()
    def lesson(self, image_tokens: Tensor, x0: Tensor, noise: Tensor, draws: Tensor) -> Lesson:
        """What to learn from a batch.

        Args:
            image_tokens: (B, N, C).
            x0: (R, L, D) latents of the data's captions, R a multiple of B, a picture's in a row.
            noise: (R, L, D) standard normal.
            draws: (R,) uniform in [0, 1]: which grid, and which of its intervals.
        """
        teacher = self.load().to(x0.device)
        t, s = self.intervals(draws)
        x_t = teacher.noise_schedule.add_noise(x0, t, noise)
        denoiser, repeats = teacher.denoiser, len(x0) // len(image_tokens)
        guidance = teacher.guidance if self.scale is None else replace(teacher.guidance, scale=self.scale)
        guided = GuidedDenoiser(
            denoiser,
            denoiser.context_of_candidates(denoiser.context(image_tokens), repeats),
            teacher.null_context(image_tokens),
            guidance,
            teacher.self_conditioning > 0,
            teacher.target,
        )
        answer = walked(guided, x_t, t, s, self.substeps, teacher.noise_schedule)
        return Lesson(t, x_t, answer, teacher.latent_space.decode(answer).argmax(-1))

    def intervals(self, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Beginnings t and ends s < t of intervals, each (R,), from uniform draws (R,): first the grid, then which."""
        place = (draws * len(self.steps)).clamp_max(len(self.steps) - 1e-3)
        grid = torch.tensor(self.steps, device=draws.device)[place.long()]
        number = torch.minimum((place.frac() * grid).floor(), grid - 1)
        return (number + 1) / grid, number / grid


def _tokens(captioner: LatentDiffusionCaptioner) -> dict[str, str]:
    """What two captioners with the same image tokens have in common."""
    return fingerprint(captioner.image_encoder, captioner.preprocess)


def walked(
    denoise: GuidedDenoiser, x_t: Tensor, t: Tensor, s: Tensor, substeps: int, schedule: NoiseSchedule
) -> Tensor:
    """The clean latent whose one DDIM step from t to s ends where ``substeps`` steps of ``denoise`` do, (B, L, D)."""
    x, x0 = x_t, None
    ends = (s == 0).view(-1, 1, 1)
    for step in range(substeps):
        now, then = (t + (s - t) * done / substeps for done in (step, step + 1))
        x0 = denoise(x, now, x0)
        x = deterministic_step(x, x0, now, then, schedule)
    assert x0 is not None
    signal, noise = signal_and_noise(schedule, t)
    signal_s, noise_s = signal_and_noise(schedule, s)
    ratio = noise_s / noise.clamp_min(1e-6)
    return torch.where(ends, x0, (x - ratio * x_t) / (signal_s - ratio * signal).clamp_min(1e-6))
