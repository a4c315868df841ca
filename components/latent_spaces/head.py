"""The language-model head: from a text feature to scores of words."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ladic.components.latent_spaces.tokens import index_of


class LMHead(nn.Module):
    """Linear, GELU, LayerNorm, linear: BERT's masked-LM head (Devlin et al. 2019), not tied to the embeddings.

    The head may score a subset of the tokenizer's vocabulary: the last layer is by far the largest matrix of a small
    captioner, and a data set uses a fraction of the words.

    Args:
        width: of the features, D.
        vocabulary: token ids scored, ascending, (V,); entry i of the logits belongs to token ``vocabulary[i]``.
    """

    def __init__(self, width: int, vocabulary: Tensor, eps: float = 1e-12) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=eps)
        self.decoder = nn.Linear(width, len(vocabulary))
        self.register_buffer("vocabulary", vocabulary.clone())
        self.vocabulary: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, L, V) of features (B, L, D)."""
        return self.decoder(self.norm(nn.functional.gelu(self.dense(features))))

    def restrict(self, vocabulary: Tensor) -> None:
        """Keeps only the given token ids (ascending, all scored now)."""
        rows = torch.searchsorted(self.vocabulary, vocabulary)
        assert torch.equal(self.vocabulary[rows], vocabulary)
        kept = nn.Linear(self.decoder.in_features, len(vocabulary)).to(self.decoder.weight.device)
        with torch.no_grad():
            kept.weight.copy_(self.decoder.weight[rows])
            kept.bias.copy_(self.decoder.bias[rows])
        self.decoder, self.vocabulary = kept, vocabulary.clone()

    def index_of(self, ids: Tensor, unknown: int) -> Tensor:
        """Position in the logits of each token id; ids that are not scored become that of ``unknown``."""
        return index_of(self.vocabulary, ids, unknown)

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

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        # A checkpoint knows which words its head scores, fewer or more than this head: it is given their number.
        stored = state_dict.get(prefix + "vocabulary")
        if stored is not None and stored.shape != self.vocabulary.shape:
            weight = self.decoder.weight
            self.decoder = nn.Linear(self.decoder.in_features, len(stored)).to(weight)
            self.vocabulary = self.vocabulary.new_empty(len(stored))
        super()._load_from_state_dict(state_dict, prefix, *args)
