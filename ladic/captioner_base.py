"""What every captioner is: an image encoder, words to learn, steps that repeat, checkpoints that load alone."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, get_args

import torch
from lightning import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from ladic.acceleration import Precision, cast_weights, compile_parts, pack_weights, weight_dtype
from ladic.checkpoints import FORMAT, check_shapes, find_checkpoint, read_checkpoint
from ladic.components.image_encoders import ImageEncoder
from ladic.draws import BatchDraws
from ladic.errors import UsageError
from ladic.features import fingerprint
from ladic.frozen import frozen_parts, leave_out, put_back
from ladic.generation import noise_seed
from ladic.hub import PretrainedMethods, located
from ladic.inference import PictureMethods
from ladic.length_control import LengthRange
from ladic.optim import Decay, SharedOptimizer, WarmupDecay, parameter_groups
from ladic.postprocess import PostProcessor
from ladic.rebuild import COMPONENTS, rebuilt
from ladic.seeds import mixed_seed
from ladic.spec import class_path, describe
from ladic.types import Candidates, CaptionBatch, CaptionOutput, ImagePreprocess, TokenBatch


class Captioner(PictureMethods, PretrainedMethods, LightningModule, ABC):
    """Base of all captioners. A subclass says how captions become token ids, what is learned, and how it captions.

    Args of every subclass:
        image_encoder: pictures to tokens.
        optimizer: takes parameter groups.
        lr_schedule: warm-up and decay over the whole run.
        decay: what weight decay is for: "matrices", sparing biases and norms, or "all" (the released code).
        seed: of what is random in captioning and in the losses of validation.
        save_frozen: whether checkpoints hold frozen weights too. By default they name their source and hash instead,
            and need the source to be loaded.
        postprocess: mends every caption; they stay as decoded if not given.

    Attributes:
        settings: constructor arguments of plain values that a checkpoint keeps, each an attribute of the same name.
        options: options of ``ladic caption`` that mean something to it.
        length_option: option that sets the length it is trained for.
        num_candidates: samples drawn for each image; of their captions one is chosen.
        compiled: whether its parts are, so that batches of one size pay.
    """

    settings: tuple[str, ...] = ()
    options: frozenset[str] = frozenset()
    length_option = "--model.length"
    num_candidates: int
    compiled = False

    def __init__(
        self,
        image_encoder: ImageEncoder,
        optimizer: OptimizerCallable,
        lr_schedule: WarmupDecay,
        decay: Decay,
        seed: int,
        save_frozen: bool,
        postprocess: PostProcessor | None,
    ) -> None:
        super().__init__()
        check_words(decay=(decay, get_args(Decay)))
        self.image_encoder = image_encoder
        self.optimizer = SharedOptimizer(optimizer)
        self.lr_schedule = lr_schedule
        self.decay: Decay = decay
        self.seed = seed
        self.save_frozen = save_frozen
        self.postprocess = postprocess
        self.loaded_step = 0
        self.loaded_from: Path | None = None
        self._trained: dict[str, Any] = {}
        self.training_seed: int | None = None
        self._frozen: dict[str, Any] | None = None
        self._draws: BatchDraws | None = None
        self._last_batch: float | None = None
        self.time_spent: Callable[[], float] | None = None  # share of a limit, of whoever keeps time
        self.minutes_spent: Callable[[], float] | None = None  # in training, of the same

    @property
    def rows(self) -> int:
        """Captions that the network works on for each image: its samples, or those of a beam."""
        return self.num_candidates

    @property
    def readings(self) -> int:
        """Captions that a sample gives."""
        return 1

    # What a subclass says.

    @property
    @abstractmethod
    def length(self) -> int:
        """L, positions of a caption."""

    @property
    @abstractmethod
    def tokenizer(self) -> Any:
        """A fast transformers tokenizer."""

    @property
    @abstractmethod
    def vocabulary_size(self) -> int:
        """V, words that it can say."""

    @property
    @abstractmethod
    def in_words(self) -> str:
        """How it captions, for a model card: Markdown, a sentence or two."""

    @abstractmethod
    def tokenize(self, captions: list[str]) -> TokenBatch:
        """Token ids and mask (B, L) of captions."""

    @abstractmethod
    def token_lengths(self, captions: list[str]) -> list[int]:
        """Tokens of captions before they are cut to L."""

    @abstractmethod
    def losses(self, batch: CaptionBatch, draws: BatchDraws | None = None) -> dict[str, Tensor]:
        """Scalars of a batch with captions; "loss" is what training lowers, the rest is logged.

        Args:
            batch: with captions.
            draws: where random numbers come from, PyTorch's own generator by default.
        """

    @abstractmethod
    def candidates(
        self, batch: CaptionBatch, number: int | None = None, length: LengthRange | None = None
    ) -> Candidates:
        """Captions for the images of a batch, with what they are chosen by.

        Args:
            batch: images, or their tokens.
            number: samples of each image; ``num_candidates`` if None.
            length: tokens a caption may have; the model decides if None.
        """

    # What a datamodule asks for.

    @property
    def preprocess(self) -> ImagePreprocess:
        """How pictures are prepared, from the encoder."""
        return self.image_encoder.preprocess

    def encoder_fingerprint(self) -> dict[str, str]:
        """What a feature cache must have been made with."""
        if not self.image_encoder.frozen:
            raise UsageError(
                "data.features: the image encoder is trained (frozen=False), so its tokens can't be cached"
            )
        return fingerprint(self.image_encoder, self.preprocess)

    # Training.

    def setup(self, stage: str) -> None:
        if stage == "fit" and not self.save_frozen:
            self._frozen = frozen_parts(self)  # now: averaging weights moves frozen ones by a rounding

    def image_tokens(self, batch: CaptionBatch) -> Tensor:
        """Tokens (B, N, C) of a batch: cached ones, or the encoder's."""
        return batch["image_tokens"].float() if "image_tokens" in batch else self.image_encoder(batch["image"])

    def training_step(self, batch: CaptionBatch, batch_idx: int) -> Tensor:
        losses = self.losses(batch, self._draws)
        size = len(batch["input_ids"])
        # Over all ranks: what is logged is the loss of the global batch, whatever ranks it lies on. In one message.
        means = self.trainer.strategy.reduce(torch.stack([value.detach().float() for value in losses.values()]))
        self.log_dict({f"train/{name}": mean for name, mean in zip(losses, means, strict=True)}, batch_size=size)
        self.log("loss", losses["loss"].detach(), prog_bar=True, logger=False, batch_size=size)
        now = time.perf_counter()
        if self._last_batch is not None:
            rate = size * self.trainer.world_size / (now - self._last_batch)
            self.log("train/captions_per_second", rate, prog_bar=True, batch_size=size)
        self._last_batch = now
        return losses["loss"]

    def on_fit_start(self) -> None:
        self.train()  # one that was loaded is in eval mode, which Lightning leaves as it is; frozen parts stay there
        if self.training_seed is None:  # what `seed_everything` left; without one the ranks have different seeds
            self.training_seed = self.trainer.strategy.broadcast(torch.initial_seed() % 2**63)

    def on_train_batch_start(self, batch: CaptionBatch, batch_idx: int) -> None:
        """Every step has random numbers of its own, so that a resumed run draws what the unbroken one would have."""
        assert self.training_seed is not None
        # "completed" lags behind where a checkpoint was saved as an epoch ended.
        epoch: int = self.trainer.fit_loop.epoch_progress.current.processed  # type: ignore[attr-defined]
        step = (self.training_seed, epoch, batch_idx)
        torch.manual_seed(mixed_seed(*step, self.global_rank))  # dropout
        generator = torch.Generator(self.device).manual_seed(mixed_seed(*step))
        ranks = (self.global_rank, self.trainer.world_size)
        self._draws = BatchDraws(len(batch["image_id"]), self.device, generator, *ranks)

    def on_validation_end(self) -> None:
        self._last_batch = None  # the pause for validation is no part of the training throughput

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(parameter_groups(self, self.decay))
        schedule = self.lr_schedule(optimizer, self.trainer.estimated_stepping_batches, self.time_spent)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # Captioning.

    def cast_parts(self) -> list[nn.Module]:
        """Parts that compute in the precision of their weights, which may be halved; float32 may come in."""
        return []

    def compiled_methods(self) -> list[tuple[nn.Module, str]]:
        """Methods in which captioning spends its time, each with its part; none where shapes change at every step."""
        return []

    def accelerate(self, precision: Precision = "auto", compile: bool = False) -> Self:
        """Makes captioning faster, in place; for a model that is not trained any more.

        Args:
            precision: of the weights: "bf16", "fp16", "fp32", or "auto", which is bf16 where the device computes it
                and fp32 elsewhere. In half precision captions may be others than in fp32, and in another batch.
            compile: compiles the parts at their first call; pays for many pictures.

        Raises:
            UsageError: for another precision, no compiler, or a captioner whose parts aren't compiled.
        """
        cast_weights(self, weight_dtype(precision, self.device.type))
        if compile:
            compile_parts(self)
        else:
            pack_weights(*self.cast_parts())
        return self

    def validation_step(self, batch: CaptionBatch, batch_idx: int) -> CaptionOutput:
        batch = {**batch, "image_tokens": self.image_tokens(batch)}  # encoded once
        self._log_validation_losses(batch)
        return self._caption_batch(batch)

    def test_step(self, batch: CaptionBatch, batch_idx: int) -> CaptionOutput:
        return self._caption_batch(batch)

    def predict_step(self, batch: CaptionBatch, batch_idx: int) -> CaptionOutput:
        return self._caption_batch(batch)

    def _caption_batch(self, batch: CaptionBatch) -> CaptionOutput:
        """The chosen caption of each image."""
        # Captioning and choosing share one encoding.
        found = self.candidates({**batch, "image_tokens": self.image_tokens(batch)})
        return {
            "image_id": batch["image_id"],
            "captions": found.chosen,
            "nfe": found.nfe,
            "selection_nfe": found.selection_nfe,
        }

    def _log_validation_losses(self, batch: CaptionBatch) -> None:
        """Losses on each image's first caption, with noise that is the same at every validation."""
        tokens = self.tokenize(batch.get("caption", [references[0] for references in batch["references"]]))
        ids, mask = tokens.input_ids.to(self.device), tokens.attention_mask.to(self.device)
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(noise_seed(self.seed, batch["image_id"][0]) % 2**31)
            losses = self.losses({**batch, "input_ids": ids, "attention_mask": mask})
        self.log_dict({f"val/{name}": value for name, value in losses.items()}, batch_size=len(ids), sync_dist=True)

    # Checkpoints describe the components, so that they load with nothing but the file.

    def description(self) -> dict[str, Any]:
        """Plain values that say which components this is made of and how they are set."""
        return {
            "captioner": class_path(type(self)),
            "components": {
                name: describe(part) for name in COMPONENTS if (part := getattr(self, name, None)) is not None
            },
            "settings": {name: getattr(self, name) for name in self.settings},
        }

    @classmethod
    def arguments(cls, stored: dict[str, Any]) -> dict[str, Any]:
        """Constructor arguments, parts left out, from a description."""
        return dict(stored["settings"])

    def training_facts(self) -> dict[str, Any]:
        """What the weights were trained on and for how long; of a loaded model, what its file says."""
        if self._trainer is None or self.trainer.state.fn != "fit":
            return {"steps": self.loaded_step, **self._trained}
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        try:
            told = None if data is None else describe(data)
        except TypeError:  # a stranger's datamodule that was built from more than plain values
            told = {"class_path": class_path(type(data)), "init_args": {}}
        batch = getattr(data, "batch_size", None)
        ranks = self.trainer.world_size * self.trainer.accumulate_grad_batches
        return {
            "data": told,
            "steps": self.trainer.global_step,
            "minutes": None if self.minutes_spent is None else self.minutes_spent(),
            "global_batch": None if batch is None else batch * ranks,
            "precision": str(self.trainer.precision),
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        about = {"training_seed": self.training_seed, "training": self.training_facts()}
        checkpoint["ladic"] = {"format": FORMAT, **about, **self.description()}
        if not self.save_frozen:
            leave_out(self, checkpoint, frozen_parts(self) if self._frozen is None else self._frozen)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        put_back(self, checkpoint)
        check_shapes(self, checkpoint["state_dict"])
        self.loaded_step = int(checkpoint.get("global_step", 0))
        self._trained = checkpoint["ladic"].get("training", {})
        if self._trainer is not None and self.trainer.state.fn == "fit":
            self.training_seed = checkpoint["ladic"].get("training_seed")

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: Any, map_location: Any = "cpu", **overrides: Any
    ) -> Self:
        """The captioner of a checkpoint, in eval mode, rebuilt from the file alone; ``Captioner`` takes any.

        Args:
            checkpoint_path: a ``.ckpt`` file, or a run's folder. Frozen weights that it leaves out come from where the
                training had them. Where commands ask for a checkpoint, a folder of ``save_pretrained`` and
                "hf:OWNER/NAME" will do too.
            map_location: device of the weights.
            overrides: constructor arguments to use instead of the stored ones, e.g. ``sampler=DDIMSampler(5)``.

        Raises:
            UsageError: if there is no checkpoint, or it isn't one of ours, or holds another kind of captioner.
        """
        folder = located(checkpoint_path)
        if folder is not None:
            return cls.from_pretrained(folder, map_location=map_location, **overrides)
        file = find_checkpoint(checkpoint_path)
        checkpoint = read_checkpoint(file, map_location)
        model = rebuilt(cls, checkpoint, f"checkpoint '{checkpoint_path}'", overrides)
        model.loaded_from = file
        return model.eval().to(map_location)


def check_words(**given: tuple[str, tuple[str, ...]]) -> None:
    """Refuses a word that isn't among those accepted.

    Raises:
        UsageError: naming the argument.
    """
    for name, (word, known) in given.items():
        if word not in known:
            raise UsageError(f"{name}='{word}': accepted are {', '.join(known)}")
