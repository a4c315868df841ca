"""Heads: from a text feature to scores of words."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ladic.components.latent_spaces.tokens import index_of
from ladic.components.latent_spaces.word_loss import linear_cross_entropy


class WordHead(nn.Module, ABC):
    """Scores words: base of all heads.

    A head may score a subset of the tokenizer's vocabulary: a data set uses a fraction of the words.

    Args:
        vocabulary: token ids scored, ascending, (V,); entry i of the logits belongs to token ``vocabulary[i]``.
    """

    def __init__(self, vocabulary: Tensor) -> None:
        super().__init__()
        self.register_buffer("vocabulary", vocabulary.clone())
        self.vocabulary: Tensor

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, L, V) of features (B, L, D)."""

    def losses(self, features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy of the logits of features (B, L, D) with targets (B, L), and the best index, each (B, L)."""
        logits = self(features)
        each = nn.functional.cross_entropy(logits.float().flatten(0, -2), targets.flatten(), reduction="none")
        return each.view_as(targets), logits.argmax(-1)

    def restrict(self, vocabulary: Tensor) -> None:
        """Keeps only the given token ids (ascending, all scored now)."""
        self.keep_rows(torch.searchsorted(self.vocabulary, vocabulary))
        assert torch.equal(self.vocabulary, vocabulary)

    def keep_rows(self, rows: Tensor) -> None:
        """Keeps only some rows of the vocabulary, and of whatever has a row for each word."""
        self.vocabulary = self.vocabulary[rows].clone()

    def index_of(self, ids: Tensor, unknown: int) -> Tensor:
        """Position in the logits of each token id; ids that are not scored become that of ``unknown``."""
        return index_of(self.vocabulary, ids, unknown)

    def make_room(self, words: int) -> None:
        """Takes the size of a head that scores so many words, whose state is about to be loaded."""
        self.vocabulary = self.vocabulary.new_empty(words)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        # A checkpoint knows which words its head scores, fewer or more than this head: it is given their number.
        stored = state_dict.get(prefix + "vocabulary")
        if stored is not None and stored.shape != self.vocabulary.shape:
            self.make_room(len(stored))
        super()._load_from_state_dict(state_dict, prefix, *args)


class LMHead(WordHead):
    """Linear, GELU, LayerNorm, linear: BERT's masked-LM head (Devlin et al. 2019), not tied to the embeddings.

    Its last layer is by far the largest matrix of a small captioner.

    Args:
        width: of the features, D.
        vocabulary: token ids scored, ascending, (V,).
    """

    def __init__(self, width: int, vocabulary: Tensor, eps: float = 1e-12) -> None:
        super().__init__(vocabulary)
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=eps)
        self.decoder = nn.Linear(width, len(vocabulary))

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, L, V) of features (B, L, D)."""
        return self.decoder(self.hidden(features))

    def hidden(self, features: Tensor) -> Tensor:
        """What the last layer reads, (B, L, D), of features (B, L, D)."""
        return self.norm(nn.functional.gelu(self.dense(features)))

    def losses(self, features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The same as of any head, without ever holding the logits of all words."""
        return linear_cross_entropy(self.hidden(features), self.decoder.weight, self.decoder.bias, targets)

    def keep_rows(self, rows: Tensor) -> None:
        super().keep_rows(rows)
        kept = nn.Linear(self.decoder.in_features, len(rows)).to(self.decoder.weight.device)
        with torch.no_grad():
            kept.weight.copy_(self.decoder.weight[rows])
            kept.bias.copy_(self.decoder.bias[rows])
        self.decoder = kept

    def copy_pretrained(self, head: nn.Module) -> bool:
        """Copies a transformers masked-LM head of BERT's or RoBERTa's shape; False if it is of another."""
        transform = getattr(head, "transform", head)
        norm = getattr(transform, "LayerNorm", None) or getattr(head, "layer_norm", None)
        dense, decoder = getattr(transform, "dense", None), getattr(head, "decoder", None)
        if dense is None or norm is None or decoder is None or decoder.weight.shape != self.decoder.weight.shape:
            return False
        self.dense.load_state_dict(dense.state_dict())
        self.norm.load_state_dict(norm.state_dict())
        with torch.no_grad():
            self.decoder.weight.copy_(decoder.weight)
            self.decoder.bias.copy_(decoder.bias if decoder.bias is not None else head.bias)  # type: ignore[arg-type]
        return True

    def make_room(self, words: int) -> None:
        super().make_room(words)
        self.decoder = nn.Linear(self.decoder.in_features, words).to(self.decoder.weight)
