"""What captioners that predict words themselves have in common: the words, the decoder, and choosing by its scores."""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from ladic.baselines.decoder import CaptionDecoder, DecoderSettings
from ladic.baselines.words import read_vocabulary, special_words
from ladic.captioner_base import Captioner
from ladic.components.image_encoders import ImageEncoder
from ladic.components.latent_spaces.backbone import load_tokenizer
from ladic.components.latent_spaces.tokens import index_of, texts, token_lengths, tokenize
from ladic.errors import UsageError
from ladic.optim import Decay, WarmupDecay
from ladic.postprocess import PostProcessor
from ladic.rerank import CandidateSelector, Evidence
from ladic.types import Candidates, CaptionBatch, TokenBatch


class WordCaptioner(Captioner, ABC):
    """Base of captioners whose network scores words. Their tokens are those of the text latent spaces.

    Args of every subclass, beside those of ``Captioner``:
        tokenizer: hub name, folder, "package:NAME/FOLDER", vocabulary file or tokenizer.json text of the BERT family.
        vocabulary: a file of ``ladic fit-space --restrict-vocabulary``: only its words are read and said, others are
            [UNK], as in the latent space it was made for; None means all words of the tokenizer.
        length: L, positions of a caption, [CLS] and [SEP] included.
        decoder: sizes and options of the network.
        selector: picks among candidates; the one with the highest score of the network if None.
    """

    causal: bool

    def __init__(
        self,
        image_encoder: ImageEncoder,
        tokenizer: str,
        vocabulary: str | None,
        length: int,
        decoder: DecoderSettings,
        optimizer: OptimizerCallable,
        lr_schedule: WarmupDecay,
        decay: Decay,
        seed: int,
        save_frozen: bool,
        postprocess: PostProcessor | None,
        selector: CandidateSelector | None = None,
    ) -> None:
        super().__init__(image_encoder, optimizer, lr_schedule, decay, seed, save_frozen, postprocess)
        if selector is not None and selector.reconstructs:
            raise UsageError(
                f"selector: {type(selector).__name__} needs a model that denoises latents; give "
                "--model.selector=MinimumBayesRiskSelector, or --model.selector=null for the likeliest"
            )
        self.selector = selector
        if length < 3:
            raise UsageError(f"length={length}: need at least 3, a word between [CLS] and [SEP]")
        self._tokenizer, self._length, self.sizes = load_tokenizer(tokenizer), length, decoder
        self.special = special_words(self._tokenizer)
        if not self.causal and "mask" not in self.special:
            raise UsageError("tokenizer: has no [MASK]; give one of the BERT family")
        ids = torch.arange(len(self._tokenizer)) if vocabulary is None else read_vocabulary(vocabulary)
        if int(ids.max()) >= len(self._tokenizer):
            raise UsageError(
                f"vocabulary='{vocabulary}': made for another tokenizer, it names token {int(ids.max())} where this "
                f"one has {len(self._tokenizer)}; give the tokenizer of that latent space"
            )
        words = torch.unique(torch.cat([ids, torch.tensor(list(self.special.values()))]))
        self.decoder = CaptionDecoder(decoder, words, length=length, cond_width=image_encoder.width, causal=self.causal)

    # What is asked of every captioner.

    @property
    def length(self) -> int:
        return self._length

    @property
    def tokenizer(self) -> Any:
        return self._tokenizer

    @property
    def vocabulary_size(self) -> int:
        return len(self.decoder.head.vocabulary)

    def tokenize(self, captions: list[str]) -> TokenBatch:
        return tokenize(self.tokenizer, captions, self.length)

    def token_lengths(self, captions: list[str]) -> list[int]:
        return token_lengths(self.tokenizer, captions)

    def cast_parts(self) -> list[nn.Module]:
        return [self.image_encoder, self.decoder]

    def description(self) -> dict[str, Any]:
        description = super().description()
        text = self.tokenizer.backend_tokenizer.to_str()  # a checkpoint needs neither folder nor hub
        own = {"tokenizer": text, "vocabulary": None, "length": self.length, "decoder": asdict(self.sizes)}
        description["settings"] = {**own, **description["settings"]}
        return description

    @classmethod
    def arguments(cls, stored: dict[str, Any]) -> dict[str, Any]:
        settings = super().arguments(stored)
        return {**settings, "decoder": DecoderSettings(**settings["decoder"])}

    # For subclasses.

    def words(self, input_ids: Tensor) -> Tensor:
        """Places in the vocabulary of token ids, of the same shape."""
        return index_of(self.decoder.head.vocabulary, input_ids, self.special["unk"])

    def word(self, name: str) -> int:
        """Place in the vocabulary of a special token: "cls", "sep", "pad", "unk" or "mask"."""
        return int(torch.searchsorted(self.decoder.head.vocabulary, self.special[name]))

    def banned(self, but: Iterable[str]) -> Tensor:
        """(V,) bool: special tokens, which are never said, but for those named."""
        banned = torch.zeros(self.vocabulary_size, dtype=torch.bool, device=self.device)
        banned[[self.word(name) for name in self.special if name not in set(but)]] = True
        return banned

    def texts(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Captions of rows of places in the vocabulary, mended if that is asked for."""
        vocabulary = self.decoder.head.vocabulary.tolist()
        captions = texts(self.tokenizer, [[vocabulary[word] for word in row] for row in rows])
        return captions if self.postprocess is None else [self.postprocess.text(caption) for caption in captions]

    def judged(self, batch: CaptionBatch, image_tokens: Tensor, found: Candidates) -> Candidates:
        """The same candidates with the selector's scores, where there is one."""
        if self.selector is None:
            return found
        evidence = Evidence(batch.get("image"), image_tokens, preprocess=self.preprocess)
        return replace(found, scores=self.selector.scores(found.captions, evidence))

    def mean_over_ranks(self, count: Tensor) -> Tensor:
        """A scalar count's mean over the ranks of a training step, at least 1.

        A sum over this mean, averaged over ranks as gradients are, is the mean of the global batch, however its counts
        lie on ranks.
        """
        counted = count.detach().float()
        if self.training and self._trainer is not None:
            counted = self.trainer.strategy.reduce(counted, reduce_op="mean")
        return counted.clamp_min(1)
