"""The usual way to caption, to compare with: one word after another, each from the image and the words before it."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.nn import functional as F

from ladic.baselines.beam import beam_search
from ladic.baselines.decoder import DecoderSettings, WordByWord
from ladic.baselines.sampling import sample_words
from ladic.baselines.word_captioner import WordCaptioner
from ladic.captioner_base import check_words
from ladic.components.image_encoders import ImageEncoder
from ladic.draws import BatchDraws
from ladic.errors import UsageError
from ladic.generation import noise_seed
from ladic.length_control import LengthRange
from ladic.optim import Decay, WarmupDecay
from ladic.postprocess import PostProcessor
from ladic.rerank import CandidateSelector
from ladic.types import Candidates, CaptionBatch

_IGNORED = -100

Sampling = Literal["beam", "sample"]


class AutoregressiveCaptioner(WordCaptioner):
    """Captions images word by word: a causal transformer decoder (Vaswani et al. 2017) that reads the image.

    It is trained by teacher forcing, all words of a caption in one pass, and captions by greedy or beam search, or by
    drawing candidates word by word. The keys and values of earlier words and of the image are computed once.
    Evaluations of the network (NFE) are its steps, for each caption of the beam.

    Args:
        image_encoder: pictures to tokens.
        tokenizer: hub name, folder, "package:NAME/FOLDER", vocabulary file or tokenizer.json text of the BERT family.
        vocabulary: a file of ``ladic fit-space --restrict-vocabulary``: only its words are read and said, others are
            [UNK], as in the latent space it was made for; None means all words of the tokenizer.
        length: L, positions of a caption, [CLS] and [SEP] included; longer ones are cut in training.
        decoder: sizes and options of the network.
        label_smoothing: share of each target that goes to all words alike (PyTorch's cross-entropy).
        sampling: "beam" for the likeliest captions, "sample" to draw them: then ``selector`` and ``num_candidates`` are
            to it what they are to ``LatentDiffusionCaptioner``.
        num_candidates: captions of each image, the likeliest of its beam or so many drawn, of which one is chosen.
        selector: picks among candidates by their texts, the picture or its tokens; the one with the highest
            log-probability, over ``length_penalty``, if not given.
        beam_size: beginnings of each image that are gone on with, no fewer than ``num_candidates``; 1 is greedy.
        temperature: of "sample", above 0: logits are divided by it.
        top_p: of "sample", in (0, 1]: the likeliest words that have that share are drawn from (nucleus sampling,
            Holtzman et al. 2020).
        length_penalty: power of the number of words that a log-probability is divided by; 0 prefers short captions.
        min_length: fewest tokens of a caption, [CLS] and [SEP] not counted.
        max_length: most; None is what ``length`` holds.
        optimizer: takes parameter groups.
        lr_schedule: warm-up and decay over the whole run.
        decay: what weight decay is for: "matrices", sparing biases and norms, or "all".
        seed: of what "sample" draws, for each image and candidate by its id.
        save_frozen: whether checkpoints hold frozen weights too. By default they name their source and hash instead,
            and need the source to be loaded.
        postprocess: mends every caption; they stay as decoded if not given.

    Raises:
        UsageError: for numbers out of range, or a tokenizer or vocabulary that can't be had.
    """

    causal = True
    settings = (
        *("label_smoothing", "beam_size", "length_penalty", "min_length", "max_length"),
        *("sampling", "num_candidates", "temperature", "top_p", "seed"),
    )
    options = frozenset({"num_candidates", "rerank", "utility", "length", "min_length", "max_length", "precision"})

    def __init__(
        self,
        image_encoder: ImageEncoder,
        tokenizer: str,
        vocabulary: str | None = None,
        length: int = 24,
        decoder: DecoderSettings = DecoderSettings(),
        label_smoothing: float = 0.1,
        beam_size: int = 3,
        length_penalty: float = 1.0,
        min_length: int = 0,
        max_length: int | None = None,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_schedule: WarmupDecay = WarmupDecay(),
        decay: Decay = "matrices",
        save_frozen: bool = False,
        postprocess: PostProcessor | None = None,
        sampling: Sampling = "beam",
        num_candidates: int = 1,
        selector: CandidateSelector | None = None,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int = 0,
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
            selector,
        )
        check_words(sampling=(sampling, get_args(Sampling)))
        if num_candidates < 1:
            raise UsageError(f"num_candidates={num_candidates}: need at least 1")
        if not 0 < temperature < math.inf:
            raise UsageError(f"temperature={temperature}: need more than 0; for the likeliest words take sampling=beam")
        if not 0 < top_p <= 1:
            raise UsageError(f"top_p={top_p}: a share of the probability, above 0 and at most 1")
        if not 0 <= label_smoothing < 1:
            raise UsageError(f"label_smoothing={label_smoothing}: a share from 0 to below 1")
        if beam_size < 1:
            raise UsageError(f"beam_size={beam_size}: need at least 1, which is greedy")
        LengthRange(min_length, max_length).check(length, self.length_option)
        self.label_smoothing, self.length_penalty = label_smoothing, length_penalty
        self.beam_size, self.min_length, self.max_length = beam_size, min_length, max_length
        self.sampling: Sampling = sampling
        self.num_candidates, self.temperature, self.top_p = num_candidates, temperature, top_p
        if sampling == "sample":
            self.options = self.options | {"seed"}

    @property
    def rows(self) -> int:
        return max(self.beam_size, self.num_candidates) if self.sampling == "beam" else self.num_candidates

    @property
    def in_words(self) -> str:
        search = f"beam search of {self.beam_size}" if self.beam_size > 1 else "greedy search"
        if self.sampling == "sample":
            search = f"{self.num_candidates} captions drawn, of which one is chosen"
        return (
            f"Captions for images word by word: an autoregressive transformer decoder with {search}.\n"
            "Made with ladic, as a baseline for its latent diffusion."
        )

    def losses(self, batch: CaptionBatch, draws: BatchDraws | None = None) -> dict[str, Tensor]:
        """Cross-entropy of the next word, and the share predicted right; both over all words and ends of the batch.

        Args:
            batch: with captions.
            draws: none are needed.
        """
        mask = batch["attention_mask"].bool()
        longest = int(mask.sum(1).max())  # what is beyond is padding, which no earlier position sees
        words, real = self.words(batch["input_ids"])[:, :longest], mask[:, 1:longest]
        logits = self.decoder(words[:, :-1], self.decoder.context(self.image_tokens(batch))).float()
        targets = words[:, 1:]
        total = F.cross_entropy(
            logits.flatten(0, 1),
            targets.masked_fill(~real, _IGNORED).flatten(),
            ignore_index=_IGNORED,
            label_smoothing=self.label_smoothing,
            reduction="sum",
        )
        right = (logits.argmax(-1) == targets) & real
        return {
            "loss": total / self.mean_over_ranks(real.sum()),
            "token_accuracy": right.sum() / real.sum().clamp_min(1),
        }

    @torch.no_grad()
    def candidates(
        self, batch: CaptionBatch, number: int | None = None, length: LengthRange | None = None
    ) -> Candidates:
        """The likeliest captions of each image, likeliest first, or those drawn for it.

        Args:
            batch: images, or their tokens.
            number: captions of each image; ``num_candidates`` if None.
            length: tokens a caption may have; what it leaves open is as in ``min_length`` and ``max_length``.
        """
        wanted = (length or LengthRange()).within(self.min_length, self.max_length)
        wanted.check(self.length, self.length_option)
        tokens, number = self.image_tokens(batch), number or self.num_candidates
        next_word = WordByWord(self.decoder, self.decoder.context(tokens))
        common: dict[str, Any] = {
            "start": self.word("cls"),
            "end": self.word("sep"),
            "max_length": wanted.most or self.length - 2,
            "min_length": wanted.least or 0,
            "length_penalty": self.length_penalty,
            "banned": self.banned(but=["sep"]),
            "device": tokens.device,
        }
        if self.sampling == "sample":
            seeds = [[noise_seed(self.seed, name, place) for place in range(number)] for name in batch["image_id"]]
            found = sample_words(next_word, seeds, temperature=self.temperature, top_p=self.top_p, **common)
        else:
            found = beam_search(next_word, len(tokens), beam_size=max(self.beam_size, number), **common)
        candidates = Candidates(
            captions=[self.texts(each.words[:number]) for each in found],
            scores=[each.scores[:number] for each in found],
            nfe=[each.steps for each in found],
            selection_nfe=[0] * len(found),
        )
        return self.judged(batch, tokens, candidates)
