"""The model: an image encoder, a text latent space, a denoiser, a noise schedule and a sampler, composed.

training:   caption -- latent_space.encode --> x0 -- noise_schedule --> x_t -- denoiser(image tokens) --> loss
captioning: noise -- sampler(denoiser(image tokens)) --> x0 -- latent_space.decode --> caption
"""

from __future__ import annotations

from typing import Any, Literal, Self, cast, get_args

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor, nn

from ladic.acceleration import Precision
from ladic.captioner_base import Captioner, check_words
from ladic.components.denoisers import Context, CrossAttentionDenoiser, Denoiser, DenoiserFactory
from ladic.components.image_encoders import ImageEncoder
from ladic.components.latent_spaces import TextLatentSpace
from ladic.components.noise_schedules import CosineSchedule, NoiseSchedule
from ladic.components.samplers import RenoiseSampler, Sampler
from ladic.distillation import Teacher
from ladic.draws import BatchDraws, Coin, StepDraws
from ladic.errors import UsageError
from ladic.generation import Generation, generate
from ladic.guidance import ClassifierFreeGuidance
from ladic.inference import InfillMethods
from ladic.length_control import LengthRange
from ladic.losses import LatentLoss, LossWeight, latent_loss, loss_weight
from ladic.null_image import NullImageMethods
from ladic.optim import Decay, WarmupDecay
from ladic.postprocess import PostProcessor
from ladic.reconstruction import Reconstruction
from ladic.rerank import CandidateSelector, Evidence, MinimumBayesRiskSelector
from ladic.rounding import Rounding
from ladic.spec import describe
from ladic.targets import Prediction, Target
from ladic.time_sampling import TimeSampling, UniformTimes
from ladic.types import Candidates, CaptionBatch, StepFn, TokenBatch

NullImage = Literal["learned", "zeros"]

SETTINGS = (
    "num_candidates",
    "latent_loss",
    "caption_loss_weight",
    "prediction",
    "loss_weight",
    "self_conditioning",
    "self_conditioning_coin",
    "drop_image",
    "null_image",
    "noise_draws",
    "seed",
)


class LatentDiffusionCaptioner(InfillMethods, NullImageMethods, Captioner):
    """Captions images by denoising a text latent (LaDiC, Wang et al. 2024).

    Args:
        image_encoder: pictures to tokens.
        latent_space: captions to latents and back.
        denoiser: class and sizes of the network that predicts the clean latent; its width, length and conditioning
            width follow the two parts above.
        noise_schedule: cosine if not given (Table 7).
        sampler: re-noising in 20 steps if not given, the best of ``benchmarks/results/sampling.md``.
        guidance: classifier-free guidance in sampling.
        selector: picks among candidates; minimum Bayes risk if not given.
        num_candidates: samples drawn for each image; the selector picks one of their captions.
        latent_loss: "l2" (un-squared norm per position) or "mse".
        caption_loss_weight: lambda of eq. 2; 0.2 in the paper.
        self_conditioning: share of the samples that train on the model's own first estimate; with 0 it is off in
            sampling too.
        self_conditioning_coin: how that share is drawn: exactly that "share" of every batch, a coin for each "sample",
            or one for the whole "batch" (the released code).
        drop_image: probability, for each sample, of training without the image (for guidance).
        null_image: what stands for no image: a "learned" token, or "zeros", the encoder's tokens of a picture that is
            zero after normalisation, of the mean colour that is (the released code).
        noise_draws: noise levels drawn for each caption of a batch. Work on the image and the caption is shared by
            the draws, which pays where the image encoder is trained.
        optimizer: takes parameter groups.
        lr_schedule: warm-up and decay over the whole run.
        decay: what weight decay is for: "matrices", sparing biases and norms, or "all" (the released code).
        seed: of the noise in captioning.
        save_frozen: whether checkpoints hold frozen weights too. By default they name their source and hash instead,
            and need the source to be loaded.
        postprocess: mends every caption; they stay as decoded if not given.
        prediction: what the network is asked for: "x0", "v" or "epsilon" (``ladic.targets``).
        loss_weight: of the latent loss over t: "none", "min_snr", "truncated_snr" or "snr" (``ladic.losses``).
        time_sampling: which noise levels training visits; all alike if not given.
        teacher: a trained captioner whose answers training learns instead of the data's (``ladic.distillation``).
        rounding: decides on the words of an estimate (``ladic.rounding``), but not of blanks that are filled; the
            likeliest one of each position if not given.

    Raises:
        UsageError: at the start of training, if the latent space's statistics were not fitted.
    """

    settings = SETTINGS
    options = frozenset(
        {"num_steps", "sampler", "back_and_refine", "guidance_scale", "seed", "num_candidates", "rerank", "utility"}
        | {"length", "min_length", "max_length", "rounding", "precision", "compile"}
    )
    length_option = "--model.latent_space.length"

    def __init__(
        self,
        image_encoder: ImageEncoder,
        latent_space: TextLatentSpace,
        denoiser: DenoiserFactory = CrossAttentionDenoiser,
        noise_schedule: NoiseSchedule | None = None,
        sampler: Sampler | None = None,
        guidance: ClassifierFreeGuidance = ClassifierFreeGuidance(),
        selector: CandidateSelector | None = None,
        num_candidates: int = 1,
        latent_loss: LatentLoss = "l2",
        caption_loss_weight: float = 0.2,
        self_conditioning: float = 0.5,
        self_conditioning_coin: Coin = "share",
        drop_image: float = 0.1,
        null_image: NullImage = "learned",
        noise_draws: int = 1,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_schedule: WarmupDecay = WarmupDecay(),
        decay: Decay = "matrices",
        seed: int = 0,
        save_frozen: bool = False,
        postprocess: PostProcessor | None = None,
        prediction: Prediction = "x0",
        loss_weight: LossWeight = "none",
        time_sampling: TimeSampling | None = None,
        teacher: Teacher | None = None,
        rounding: Rounding | None = None,
    ) -> None:
        super().__init__(image_encoder, optimizer, lr_schedule, decay, seed, save_frozen, postprocess)
        for name, value in (("num_candidates", num_candidates), ("noise_draws", noise_draws)):
            if value < 1:
                raise UsageError(f"{name}={value}: need at least 1")
        for name, share in (("self_conditioning", self_conditioning), ("drop_image", drop_image)):
            if not 0 <= share <= 1:
                raise UsageError(f"{name}={share}: a probability lies between 0 and 1")
        check_words(
            self_conditioning_coin=(self_conditioning_coin, get_args(Coin)),
            null_image=(null_image, get_args(NullImage)),
            loss_weight=(loss_weight, get_args(LossWeight)),
        )
        self.latent_space = latent_space
        self.denoiser: Denoiser = denoiser(
            width=latent_space.width, length=latent_space.length, cond_width=image_encoder.width
        )
        learned = null_image == "learned"
        self.null_token = nn.Parameter(torch.zeros(1, 1, image_encoder.width)) if learned else None
        if self.null_token is not None:  # that no loss sees where no image is dropped: several processes would miss it
            self.null_token.requires_grad_(drop_image > 0)
        self.noise_schedule = noise_schedule or CosineSchedule()
        self.sampler = sampler or RenoiseSampler(20)
        self.sampler.times(self.noise_schedule)  # more steps than its table has are refused now, not after training
        self.selector = selector or MinimumBayesRiskSelector()
        self.guidance = guidance
        self.num_candidates = num_candidates
        self.latent_loss: LatentLoss = latent_loss
        self.caption_loss_weight = caption_loss_weight
        self.prediction: Prediction = prediction
        self.target = Target(prediction, self.noise_schedule)
        stretched = type(self.noise_schedule).add_training_noise is not NoiseSchedule.add_training_noise
        if stretched and prediction != "x0":
            raise UsageError(
                f"prediction='{prediction}': {type(self.noise_schedule).__name__} has other noise in training than in "
                "sampling, so that only x0 means the same in both; give --model.prediction=x0"
            )
        self.loss_weight: LossWeight = loss_weight
        self.time_sampling = time_sampling or UniformTimes()
        self.self_conditioning = self_conditioning
        self.self_conditioning_coin: Coin = self_conditioning_coin
        self.drop_image = drop_image
        self.null_image: NullImage = null_image
        self.noise_draws = noise_draws
        self._observed: tuple[Tensor, Tensor] | None = None
        self._zeros = {}
        self._null_context = None
        self.teacher = teacher
        if teacher is not None:
            teacher.check(self)
        self.rounding = rounding
        if rounding is not None:
            rounding.check(latent_space)

    # What a datamodule asks for.

    @property
    def length(self) -> int:
        return self.latent_space.length

    @property
    def readings(self) -> int:
        return 1 if self.rounding is None else self.rounding.readings

    @property
    def tokenizer(self) -> Any:
        return self.latent_space.tokenizer

    @property
    def vocabulary_size(self) -> int:
        return self.latent_space.vocabulary_size

    @property
    def in_words(self) -> str:
        return (
            "Captions for images by latent diffusion: all the words at once, denoised in a text latent space, in "
            f"{self.sampler.num_steps} steps. Made\n"
            "with ladic after [LaDiC](https://arxiv.org/abs/2404.10763) (Wang et al. 2024)."
        )

    def tokenize(self, captions: list[str]) -> TokenBatch:
        """Token ids and mask of captions, from the latent space."""
        return self.latent_space.tokenize(captions)

    def token_lengths(self, captions: list[str]) -> list[int]:
        """Tokens of captions before they are cut to the latent space's length."""
        return self.latent_space.token_lengths(captions)

    # Training.

    def setup(self, stage: str) -> None:
        if stage == "fit" and self.teacher is not None:
            anew = self.teacher.prepare(self)
            if anew:
                rank_zero_info(f"model.teacher: the student's {' and '.join(anew)} has other sizes and starts anew")
        super().setup(stage)
        if stage == "fit" and not bool(self.latent_space.normalizer.fitted):
            raise UsageError(
                "model.latent_space: its statistics are not fitted; run `ladic fit-space -c CONFIG --output FILE` and "
                "give --model.latent_space.fitted=FILE"
            )

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        self.forget_null_image()
        return super().load_state_dict(*args, **kwargs)

    def losses(self, batch: CaptionBatch, draws: BatchDraws | StepDraws | None = None) -> dict[str, Tensor]:
        """Both losses of eq. 2, their sum, and the share of real words predicted right, each a scalar.

        Args:
            batch: with captions.
            draws: where noise and times come from, PyTorch's own generator by default; or those draws themselves.
        """
        tokens = self.image_tokens(batch)
        ids, mask = batch["input_ids"], batch["attention_mask"]
        x0, targets = self.latent_space.encode(ids, mask).float(), self.latent_space.targets(ids, mask)
        special = self.latent_space.special_positions(ids, mask)
        x0, targets, special = (value.repeat_interleave(self.noise_draws, dim=0) for value in (x0, targets, special))
        if not isinstance(draws, StepDraws):
            draws = self._step_draws(draws or BatchDraws(len(tokens), tokens.device), x0)
        if self.training and self.drop_image:
            tokens = torch.where(draws.dropped.view(-1, 1, 1), self.null_tokens(tokens), tokens)
        context = self.denoiser.context_of_candidates(self.denoiser.context(tokens), self.noise_draws)

        t = draws.times
        if self.training and self.teacher is not None:
            lesson = self.teacher.lesson(tokens, x0, draws.noise, t)
            t, x_t, x0, targets = lesson.t, lesson.x_t, lesson.x0, lesson.targets
        else:
            x_t = self.noise_schedule.add_training_noise(x0, t, draws.noise)
        output = self.denoiser(x_t, t, context, self._earlier_estimate(x_t, t, context, draws.conditioned))

        on_words, words = self.latent_space.word_losses(self.target.to_x0(output, x_t, t), targets)
        on_words = on_words.mean(-1)
        on_latents = latent_loss(output, self.target.of(x0, draws.noise, t), self.latent_loss)
        if self.loss_weight != "none":
            log_snr = self.noise_schedule.training_log_snr(t)
            on_latents = on_latents * loss_weight(self.loss_weight, log_snr, self.prediction)
        self._observed = (t, (on_latents + self.caption_loss_weight * on_words).detach())
        if draws.weight is not None:
            on_latents, on_words = on_latents * draws.weight, on_words * draws.weight
        on_latents, on_words = on_latents.mean(), on_words.mean()
        right = ((words == targets) & ~special).sum() / (~special).sum().clamp_min(1)
        return {
            "loss": on_latents + self.caption_loss_weight * on_words,
            "latent_loss": on_latents.detach(),
            "caption_loss": on_words.detach(),
            "token_accuracy": right,
        }

    def _step_draws(self, draws: BatchDraws, x0: Tensor) -> StepDraws:
        """The random numbers of a step on latents x0 (R, L, D)."""
        repeats = self.noise_draws
        some = self.training and self.drop_image
        dropped = draws.uniform() < self.drop_image if some else x0.new_zeros(draws.rows, dtype=torch.bool)
        times, weight = draws.uniform(repeats).flatten(), None
        if self.training:
            times, weight = self.time_sampling.times(times)
        times = self.noise_schedule.training_times(times)
        noise = draws.normal(repeats, *x0.shape[1:]).flatten(0, 1)
        # By default a fixed number of rows rather than a coin for each: the same share, one shape, no wasted pass.
        share, coin = self.self_conditioning, self.self_conditioning_coin
        conditioned = draws.conditioned(share, coin, repeats) if share else x0.new_zeros(0, dtype=torch.long)
        return StepDraws(dropped, times, noise, conditioned, weight)

    def _earlier_estimate(self, x_t: Tensor, t: Tensor, context: Context, rows: Tensor) -> Tensor | None:
        """Self-conditioning (Chen et al. 2022): for a random part of the samples, the model's own first estimate."""
        if not self.self_conditioning:
            return None
        earlier = torch.zeros_like(x_t)
        if len(rows):
            with torch.no_grad():
                images = rows // (len(x_t) // len(context))
                output = self.denoiser(x_t[rows], t[rows], context.select(images), None)
                earlier[rows] = self.target.to_x0(output, x_t[rows], t[rows]).to(x_t.dtype)
            torch.clear_autocast_cache()  # in torch 2.8 weights that were cast without a gradient are used again
        return earlier

    def training_step(self, batch: CaptionBatch, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        if self.time_sampling.learns and self._observed is not None:
            # Of all ranks, so that they go on with the same times.
            t, rows = (cast(Tensor, self.all_gather(values)).flatten() for values in self._observed)
            self.time_sampling.observe(t, rows)
        return loss

    # Captioning.

    def cast_parts(self) -> list[nn.Module]:
        text = [part for part in self.latent_space.children() if part is not self.latent_space.normalizer]
        return [self.image_encoder, self.denoiser, *text]

    def compiled_methods(self) -> list[tuple[nn.Module, str]]:
        denoiser = [(self.denoiser, "context"), (self.denoiser, "forward")]
        return [(self.image_encoder, "forward"), *denoiser, (self.latent_space, "decode")]

    def accelerate(self, precision: Precision = "auto", compile: bool = False) -> Self:
        self.forget_null_image()
        return super().accelerate(precision, compile)

    def parts(self) -> dict[str, Any]:
        """What sampling needs of the model, as keyword arguments of ``generate`` and ``fill``."""
        return {
            "denoiser": self.denoiser,
            "latent_space": self.latent_space,
            "schedule": self.noise_schedule,
            "sampler": self.sampler,
            "guidance": self.guidance,
            "self_conditioning": self.self_conditioning > 0,
            "target": self.target,
            "seed": self.seed,
        }

    @torch.no_grad()
    def generate(
        self,
        batch: CaptionBatch,
        num_candidates: int | None = None,
        length: LengthRange | None = None,
        on_step: StepFn | None = None,
    ) -> Generation:
        """Candidates for the images of a batch."""
        tokens = self.image_tokens(batch)
        return generate(
            tokens,
            self.null_context(tokens) if self.guidance.scale != 1 else None,
            batch["image_id"],
            num_candidates=num_candidates or self.num_candidates,
            length=length,
            rounding=self.rounding,
            postprocess=self.postprocess,
            on_step=on_step,
            **self.parts(),
        )

    @torch.no_grad()
    def judge(
        self, batch: CaptionBatch, candidates: list[list[str]], selector: CandidateSelector | None = None
    ) -> tuple[list[list[float]], list[int]]:
        """A selector's score of every candidate, and the network evaluations spent on each image's."""
        tokens = self.image_tokens(batch)
        reconstruct = Reconstruction(
            tokens,
            batch["image_id"],
            denoiser=self.denoiser,
            latent_space=self.latent_space,
            schedule=self.noise_schedule,
            target=self.target,
            seed=self.seed,
        )
        evidence = Evidence(batch.get("image"), tokens, reconstruct, self.preprocess)
        return (selector or self.selector).scores(candidates, evidence), reconstruct.nfe

    def candidates(
        self, batch: CaptionBatch, number: int | None = None, length: LengthRange | None = None
    ) -> Candidates:
        generation = self.generate(batch, number, length)
        scores, spent = self.judge(batch, generation.candidates)
        return Candidates(generation.candidates, scores, [generation.nfe] * len(scores), spent)

    def description(self) -> dict[str, Any]:
        return {**super().description(), "denoiser": describe(self.denoiser), "guidance": vars(self.guidance)}
