"""The usual way to caption, to compare with: one word after another, each from the image and the words before it."""

from __future__ import annotations

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.nn import functional as F

from ladic.baselines.beam import beam_search
from ladic.baselines.decoder import DecoderSettings, WordByWord
from ladic.baselines.word_captioner import WordCaptioner
from ladic.components.image_encoders import ImageEncoder
from ladic.draws import BatchDraws
from ladic.errors import UsageError
from ladic.length_control import LengthRange
from ladic.optim import Decay, WarmupDecay
from ladic.postprocess import PostProcessor
from ladic.types import Candidates, CaptionBatch

_IGNORED = -100


class AutoregressiveCaptioner(WordCaptioner):
    """Captions images word by word: a causal transformer decoder (Vaswani et al. 2017) that reads the image.

    It is trained by teacher forcing, all words of a caption in one pass, and captions by greedy or beam search. The
    keys and values of earlier words and of the image are computed once. Evaluations of the network (NFE) are its steps.

    Args:
        image_encoder: pictures to tokens.
        tokenizer: hub name, folder, "package:NAME/FOLDER", vocabulary file or tokenizer.json text of the BERT family.
        vocabulary: a file of ``ladic fit-space --restrict-vocabulary``: only its words are read and said, others are
            [UNK], as in the latent space it was made for; None means all words of the tokenizer.
        length: L, positions of a caption, [CLS] and [SEP] included; longer ones are cut in training.
        decoder: sizes and options of the network.
        label_smoothing: share of each target that goes to all words alike (PyTorch's cross-entropy).
        beam_size: beginnings of each image that are gone on with; 1 is greedy.
        length_penalty: power of the number of words that a log-probability is divided by; 0 prefers short captions.
        min_length: fewest tokens of a caption, [CLS] and [SEP] not counted.
        max_length: most; None is what ``length`` holds.
        optimizer: takes parameter groups.
        lr_schedule: warm-up and decay over the whole run.
        decay: what weight decay is for: "matrices", sparing biases and norms, or "all".
        save_frozen: whether checkpoints hold frozen weights too. By default they name their source and hash instead,
            and need the source to be loaded.
        postprocess: mends every caption; they stay as decoded if not given.

    Raises:
        UsageError: for numbers out of range, or a tokenizer or vocabulary that can't be had.
    """

    causal = True
    settings = ("label_smoothing", "beam_size", "length_penalty", "min_length", "max_length")
    options = frozenset({"num_candidates", "length", "min_length", "max_length", "precision"})

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
            0,  # nothing is drawn
            save_frozen,
            postprocess,
        )
        if not 0 <= label_smoothing < 1:
            raise UsageError(f"label_smoothing={label_smoothing}: a share from 0 to below 1")
        if beam_size < 1:
            raise UsageError(f"beam_size={beam_size}: need at least 1, which is greedy")
        LengthRange(min_length, max_length).check(length, self.length_option)
        self.label_smoothing, self.length_penalty = label_smoothing, length_penalty
        self.beam_size, self.min_length, self.max_length = beam_size, min_length, max_length

    @property
    def num_candidates(self) -> int:
        """The captions of an image's beam; what ``ladic caption --num-candidates`` sets."""
        return self.beam_size

    @num_candidates.setter
    def num_candidates(self, number: int) -> None:
        self.beam_size = number

    @property
    def in_words(self) -> str:
        search = f"beam search of {self.beam_size}" if self.beam_size > 1 else "greedy search"
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
        """The beam of each image, likeliest first; the likeliest is the caption.

        Args:
            batch: images, or their tokens.
            number: size of the beam; ``beam_size`` if None.
            length: tokens a caption may have; what it leaves open is as in ``min_length`` and ``max_length``.
        """
        wanted = (length or LengthRange()).within(self.min_length, self.max_length)
        wanted.check(self.length, self.length_option)
        tokens = self.image_tokens(batch)
        found = beam_search(
            WordByWord(self.decoder, self.decoder.context(tokens)),
            len(tokens),
            start=self.word("cls"),
            end=self.word("sep"),
            beam_size=number or self.beam_size,
            max_length=wanted.most or self.length - 2,
            min_length=wanted.least or 0,
            length_penalty=self.length_penalty,
            banned=self.banned(but=["sep"]),
            device=tokens.device,
        )
        return Candidates(
            captions=[self.texts(each.words) for each in found],
            scores=[each.scores for each in found],
            nfe=[each.steps for each in found],
            selection_nfe=[0] * len(found),
        )
