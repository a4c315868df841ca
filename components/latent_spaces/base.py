"""The contract of a text latent space: captions to latents of one fixed shape, and back.

    caption -- tokenize --> ids, mask (B, L) -- features --> raw (B, L, D) -- normalise, reassign --> x0 (B, L, D)
    x0 -- denormalise, refine --> raw (B, L, D) -- head --> logits (B, L, V) -- argmax, to_text --> caption

Special positions ([CLS], [SEP], [PAD]) get one latent of their own (paper §3.2, eq. 1): their features are a blend
of the whole sentence and could not be told apart, while a fixed vector is easily predicted and marks where the
caption ends. Both halves of this regularisation, normalising and reassigning, can be left out (paper, Table 5).
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ladic.components.latent_spaces.head import WordHead
from ladic.components.latent_spaces.normalizer import LatentNormalizer
from ladic.components.latent_spaces.tokens import texts, token_lengths, tokenize
from ladic.errors import UsageError
from ladic.json_files import write_whole
from ladic.spec import Buildable, absolute
from ladic.types import TokenBatch

SpecialAt = Literal["mean", "apart"]


class TextLatentSpace(Buildable, nn.Module, ABC):
    """Base of all text latent spaces. A subclass gives ``features`` and, if it has one, ``refine``.

    The head is trainable, everything else is frozen and stays in eval mode.

    Attributes:
        width: D.
        length: L, positions of a caption, [CLS] and [SEP] included.
        tokenizer: a fast transformers tokenizer.
        normalizer: the statistics of the space.
        head: scores words from features.
        special_token: None gives special positions a fixed latent and the target [PAD] (the paper); a token gives
            them its raw feature and that token as target (the released code: ".").
        special_at: where that fixed latent lies: at the "mean" of all words, which is zero (the paper), or "apart".
        reassign: whether special positions get that latent; else they keep their features and are their own targets.
        encoder_dropout: whether ``encode`` draws the text model's dropout in training, as the released code does.
    """

    width: int
    length: int
    tokenizer: Any
    normalizer: LatentNormalizer
    head: WordHead
    special_token: str | None = None
    special_at: SpecialAt = "mean"
    reassign: bool = True
    encoder_dropout: bool = False
    layer: int = 0  # of the text model, whose features these are; 0 where they are embeddings or of no model
    trained_head: bool = False  # whether the head already knows its words (from pretraining or from fit-space)

    fitted_parts = ("normalizer", "head")  # what fitting or training made, beside the text model

    def frozen_source(self) -> dict[str, Any] | None:
        """The text model, where one was named."""
        model = self.__dict__["_init_args"].get("model")
        return None if model is None else {"model": absolute(model), "config": None}

    @property
    def vocabulary_size(self) -> int:
        """V, the words that the head scores."""
        return len(self.head.vocabulary)

    @abstractmethod
    def features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Raw features (B, L, D) of token ids (B, L), before normalisation."""

    def refine(self, features: Tensor) -> Tensor:
        """What lies between a raw feature and the head, (B, L, D) to the same; nothing by default."""
        return features

    def tokenize(self, captions: list[str]) -> TokenBatch:
        """Token ids and mask (B, L), cut or padded to the length of the space."""
        return tokenize(self.tokenizer, captions, self.length)

    def token_lengths(self, captions: list[str]) -> list[int]:
        """Tokens of each caption before it is cut, [CLS] and [SEP] included."""
        return token_lengths(self.tokenizer, captions)

    def special_positions(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, L) bool: [CLS], [SEP] and [PAD], wherever they stand."""
        special = attention_mask == 0
        for token in (self.tokenizer.cls_token_id, self.tokenizer.sep_token_id, self.tokenizer.pad_token_id):
            special = special | (input_ids == token)  # numbers: a tensor of them would have a GPU wait for its copy
        return special

    def reassigned_positions(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, L) bool: where ``encode`` writes the special latent.

        With a ``special_token`` these are, as in the released code, all but the n - 2 positions after the first of a
        caption of n tokens; they differ from ``special_positions`` only where a caption itself says "[SEP]".
        """
        if not self.reassign:
            return torch.zeros_like(input_ids, dtype=torch.bool)
        if self.special_token is None:
            return self.special_positions(input_ids, attention_mask)
        inner = attention_mask.roll(-1, dims=1).bool()
        inner[:, 0] = False
        inner[:, -1] = False
        return ~inner

    @torch.no_grad()
    def encode(self, input_ids: Tensor, attention_mask: Tensor, seen: Tensor | None = None) -> Tensor:
        """Clean latents x0 (B, L, D): normalised features, special positions reassigned.

        Args:
            input_ids: (B, L).
            attention_mask: (B, L), 1 on the caption.
            seen: (B, L), 1 where the text model may look, if not at all of the caption: blanks are no words yet.
        """
        with self._dropout():
            features = self.features(input_ids, attention_mask if seen is None else seen)
        latents = self.normalizer.normalize(features)
        special = self.reassigned_positions(input_ids, attention_mask)
        return torch.where(special.unsqueeze(-1), self.special_latent().to(latents.dtype), latents)

    def special_latent(self) -> Tensor:
        """The latent (D,) of special positions: a fixed one, or the raw, un-normalised feature of ``special_token``.

        The fixed one is zero where ``special_at`` is "mean". An uncertain estimate lies near the mean too, so that it
        is read as the end of the caption, which comes out short; "apart" is +1, -1, +1, …, as long as words are.

        The token's is that of it alone between [CLS] and [SEP], and never has dropout in it.
        """
        if self.special_token is None:
            zeros = torch.zeros_like(self.normalizer.mean)
            place = torch.arange(len(zeros), device=zeros.device)
            return zeros if self.special_at == "mean" else zeros + 1 - 2 * (place % 2)
        encoded = self.tokenizer([self.special_token], return_tensors="pt").to(self.normalizer.mean.device)
        return self.features(encoded["input_ids"], encoded["attention_mask"])[0, 1]

    def place_special(self, special_at: SpecialAt, special_token: str | None) -> None:
        """Sets both, checked; subclasses call this in their constructor.

        Raises:
            UsageError: for another word, or "apart" beside a token, which has a latent of its own.
        """
        if special_at not in get_args(SpecialAt):
            raise UsageError(f"special_at='{special_at}': accepted are 'mean' and 'apart'")
        if special_at == "apart" and special_token is not None:
            raise UsageError(
                f"special_at='apart', special_token='{special_token}': the token says where; leave one out"
            )
        self.special_at, self.special_token = special_at, special_token

    @contextlib.contextmanager
    def _dropout(self) -> Iterator[None]:
        """The text model in training mode, where ``encoder_dropout`` asks for it; it is never left so."""
        noisy = self.encoder_dropout and self.training
        if noisy:
            super().train(True)
        try:
            yield
        finally:
            if noisy:
                self.train(True)

    def decode(self, x0: Tensor) -> Tensor:
        """Logits (B, L, V) of latents (B, L, D); entry i scores token ``head.vocabulary[i]``.

        Statistics are float32 at least, what follows has the precision of the weights.
        """
        return self.head(self._read(x0))

    def word_losses(self, x0: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy of the logits of x0 (B, L, D) with targets (B, L), and the likeliest word, each (B, L)."""
        return self.head.losses(self._read(x0), targets)

    def _read(self, x0: Tensor) -> Tensor:
        """What the head reads of latents, (B, L, D) to the same."""
        return self.refine(self.normalizer.denormalize(x0).to(next(self.head.parameters()).dtype))

    def targets(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Index into the logits (B, L) of the word each position should give; special positions give [PAD].

        With a ``special_token`` they give that token, as the released code does with ".". Without ``reassign`` they
        give themselves.
        """
        if self.reassign:
            input_ids = input_ids.masked_fill(self.special_positions(input_ids, attention_mask), self.filler_id)
        return self.head.index_of(input_ids, unknown=self.tokenizer.unk_token_id)

    @property
    def filler_id(self) -> int:
        """Token id of what special positions give: [PAD], or the ``special_token``."""
        if self.special_token is None:
            return int(self.tokenizer.pad_token_id)
        return int(self.tokenizer(self.special_token, add_special_tokens=False)["input_ids"][0])

    def to_text(self, indices: Tensor) -> list[str]:
        """Captions from indices into the logits (B, L): special tokens erased, word pieces joined."""
        return texts(self.tokenizer, self.head.vocabulary[indices].tolist())

    def save_fit(self, path: Path, metadata: dict[str, str] | None = None) -> None:
        """Writes what fitting found (statistics, head) as one safetensors file."""
        tensors = {f"normalizer.{key}": value for key, value in self.normalizer.state_dict().items()}
        tensors |= {f"head.{key}": value for key, value in self.head.state_dict().items()}
        facts = {"layer": str(self.layer), **(metadata or {})}
        write_whole(path, save({key: value.contiguous() for key, value in tensors.items()}, facts))

    def load_fit(self, path: str) -> None:
        """Reads what ``save_fit`` wrote.

        Raises:
            UsageError: if the file is missing, broken, or of another space.
        """
        if not Path(path).is_file():
            raise UsageError(f"fitted='{path}': no such file; make it with `ladic fit-space -c CONFIG --output {path}`")
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # it is no dict
                facts = file.metadata() or {}
        except SafetensorError as error:
            raise UsageError(
                f"fitted='{path}': not a safetensors file ({error}); make it again with fit-space"
            ) from error
        width = tensors["normalizer.mean"].shape[0] if "normalizer.mean" in tensors else None
        if width != self.width:
            raise UsageError(f"fitted='{path}': fitted for a space of width {width}, this one has {self.width}")
        if facts.get("layer", str(self.layer)) != str(self.layer):  # files of before have no word of it
            raise UsageError(
                f"fitted='{path}': fitted at layer {facts['layer']}, this space is at layer {self.layer}; make another "
                "with `ladic fit-space` and the same options"
            )
        missing, unexpected = self.load_state_dict(tensors, strict=False)
        assert not unexpected
        assert not [key for key in missing if key.startswith(("normalizer.", "head."))]
        self.trained_head = True

    def freeze_backbone(self) -> None:
        """Fixes everything but the head; subclasses call this at the end of their constructor."""
        self.requires_grad_(False)
        self.head.requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> TextLatentSpace:
        """Only the head follows the mode: the frozen rest stays in eval mode, without dropout."""
        super().train(False)
        self.training = mode
        self.head.train(mode)
        return self
