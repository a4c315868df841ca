"""Diffusion over words instead of latents of them: hidden words come to light, the surest first."""

from __future__ import annotations

from typing import get_args

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F

from ladic.baselines.decoder import DecoderSettings
from ladic.baselines.unmasking import MaskSchedule, hidden_share, unmask
from ladic.baselines.word_captioner import WordCaptioner
from ladic.captioner_base import check_words
from ladic.components.image_encoders import ImageEncoder
from ladic.draws import BatchDraws
from ladic.errors import UsageError
from ladic.length_control import LengthRange
from ladic.optim import Decay, WarmupDecay
from ladic.postprocess import PostProcessor
from ladic.types import Candidates, CaptionBatch

_LEAST_SHARE = 1e-3
"""A share is taken for so much at least in the loss: MDLM's code begins its times there."""


class MaskedDiffusionCaptioner(WordCaptioner):
    """Captions images by discrete diffusion with an absorbing \\[MASK\\] state (MDLM, Sahoo et al. 2024; MaskGIT).

    Training hides a random share of a caption's L positions, padding among them, and asks for the hidden words; the
    share of hidden words is the noise level. With the linear schedule the loss is MDLM's bound on the negative
    log-likelihood in continuous time, nats a position: hidden words count 1 / share. With the cosine schedule it is
    that of MaskGIT (Chang et al. 2022, §3.1), the mean over hidden words. Captioning begins with all of them hidden and
    takes the surest at every step, as MaskGIT and DDCap (Zhu et al. 2022) do; padding comes last.

    The caption's length is implicit, as in LaDiC: [PAD] is a word like any other. Of DDCap it has the best-first
    inference alone, not its length prediction, concentrated attention mask and image-free training. Evaluations of the
    network (NFE) are the steps.

    Args:
        image_encoder: pictures to tokens.
        tokenizer: hub name, folder, "package:NAME/FOLDER", vocabulary file or tokenizer.json text of the BERT family.
        vocabulary: a file of ``ladic fit-space --restrict-vocabulary``: only its words are read and said, others are
            [UNK], as in the latent space it was made for; None means all words of the tokenizer.
        length: L, positions of a caption, [CLS] and [SEP] included; longer ones are cut in training.
        decoder: sizes and options of the network, whose positions all see each other.
        num_steps: evaluations in captioning, at most.
        mask_schedule: how many words are hidden in training and captioning: "cosine" (MaskGIT) or "linear" (MDLM).
        optimizer: takes parameter groups.
        lr_schedule: warm-up and decay over the whole run.
        decay: what weight decay is for: "matrices", sparing biases and norms, or "all".
        seed: of what is hidden in the losses of validation; captioning draws nothing.
        save_frozen: whether checkpoints hold frozen weights too. By default they name their source and hash instead,
            and need the source to be loaded.
        postprocess: mends every caption; they stay as decoded if not given.

    Raises:
        UsageError: for numbers out of range, or a tokenizer or vocabulary that can't be had.
    """

    causal = False
    settings = ("num_steps", "mask_schedule", "seed")
    options = frozenset({"num_steps", "precision", "compile"})
    num_candidates = 1

    def __init__(
        self,
        image_encoder: ImageEncoder,
        tokenizer: str,
        vocabulary: str | None = None,
        length: int = 24,
        decoder: DecoderSettings = DecoderSettings(),
        num_steps: int = 10,
        mask_schedule: MaskSchedule = "cosine",
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_schedule: WarmupDecay = WarmupDecay(),
        decay: Decay = "matrices",
        seed: int = 0,
        save_frozen: bool = False,
        postprocess: PostProcessor | None = None,
    ) -> None:
        super().__init__(
            image_encoder,
            tokenizer,
            vocabulary,
            length,
            decoder,
            optimizer,
            lr_schedule,
            decay,
            seed,
            save_frozen,
            postprocess,
        )
        check_words(mask_schedule=(mask_schedule, get_args(MaskSchedule)))
        if num_steps < 1:
            raise UsageError(f"num_steps={num_steps}: need at least 1")
        self.num_steps = num_steps
        self.mask_schedule: MaskSchedule = mask_schedule

    @property
    def in_words(self) -> str:
        return (
            "Captions for images by discrete diffusion: all words hidden at first, the surest taken in each of "
            f"{self.num_steps} steps.\nMade with ladic, as a baseline for its latent diffusion."
        )

    def compiled_methods(self) -> list[tuple[nn.Module, str]]:
        return [(self.image_encoder, "forward"), (self.decoder, "context"), (self.decoder, "forward")]

    def losses(self, batch: CaptionBatch, draws: BatchDraws | None = None) -> dict[str, Tensor]:
        """Cross-entropy of the hidden words, padding among them, and the share of real ones predicted right.

        With the linear schedule a word counts 1 / (share that was hidden), and the mean is over all positions.

        Args:
            batch: with captions.
            draws: what says which words are hidden; PyTorch's own generator by default.
        """
        words = self.words(batch["input_ids"])
        draws = draws or BatchDraws(len(words), words.device)
        share = hidden_share(self.mask_schedule, draws.uniform()).unsqueeze(1)
        hidden = draws.uniform(self.length) < share
        hidden[:, 0] = False  # all captions begin alike
        context = self.decoder.context(self.image_tokens(batch))
        logits = self.decoder(words.masked_fill(hidden, self.word("mask")), context).float()
        each, count = F.cross_entropy(logits[hidden], words[hidden], reduction="none"), hidden.sum()
        if self.mask_schedule == "linear":
            each = each / share.clamp_min(_LEAST_SHARE).expand_as(hidden)[hidden]
            count = torch.full_like(count, hidden[:, 1:].numel())
        real = hidden & batch["attention_mask"].bool()
        right = (logits.argmax(-1) == words) & real
        return {
            "loss": each.sum() / self.mean_over_ranks(count),
            "token_accuracy": right.sum() / real.sum().clamp_min(1),
        }

    @torch.no_grad()
    def candidates(
        self, batch: CaptionBatch, number: int | None = None, length: LengthRange | None = None
    ) -> Candidates:
        """One caption of each image, scored by the mean log-probability of its words.

        Raises:
            UsageError: if more are asked for, or a length.
        """
        if number not in (None, 1) or length is not None:
            what = f"num_candidates={number}" if length is None else f"length of {length.in_words}"
            raise UsageError(f"{what}: MaskedDiffusionCaptioner says one caption of a picture, as long as it finds it")
        tokens = self.image_tokens(batch)
        words = torch.full((len(tokens), self.length), self.word("mask"), device=tokens.device)
        words[:, 0] = self.word("cls")
        context = self.decoder.context(tokens)
        found = unmask(
            lambda known: self.decoder(known, context),
            words,
            mask=self.word("mask"),
            num_steps=self.num_steps,
            schedule=self.mask_schedule,
            padding=self.word("pad"),
            banned=self.banned(but=["sep", "pad"]),
        )
        end = self.word("sep")
        rows = [row[: row.index(end)] if end in row else row for row in found.words.tolist()]
        return Candidates(
            captions=[[caption] for caption in self.texts(rows)],
            scores=[[score] for score in found.scores.tolist()],
            nfe=[found.steps] * len(rows),
            selection_nfe=[0] * len(rows),
        )
