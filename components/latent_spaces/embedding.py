"""Layer 0: word embeddings themselves as the latent (Diffusion-LM, Li et al. 2022; rows a-c of the paper's Table 5)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ladic.components.latent_spaces.backbone import load_encoder, load_tokenizer
from ladic.components.latent_spaces.base import SpecialAt, TextLatentSpace
from ladic.components.latent_spaces.bert import portable_text_args
from ladic.components.latent_spaces.head import LMHead
from ladic.components.latent_spaces.normalizer import LatentNormalizer
from ladic.errors import UsageError


class EmbeddingLatentSpace(TextLatentSpace):
    """Each token's own embedding, without context or position; the head alone reads it back.

    Args:
        model: hub name or local folder of the model whose word embeddings are used.
        length: L, positions of a caption.
        config: instead of ``model``, a configuration for small random embeddings.
        tokenizer: hub name, folder, vocabulary file or tokenizer.json text; None takes the model's own.
        fitted: file with statistics and head from ``ladic fit-space``.
        special_token, special_at, normalize, normalizer_eps, reassign: as in ``BertLatentSpace``.
    """

    def __init__(
        self,
        model: str | None = None,
        length: int = 24,
        config: dict[str, Any] | None = None,
        tokenizer: str | None = None,
        fitted: str | None = None,
        special_token: str | None = None,
        normalize: bool = True,
        normalizer_eps: float = 1e-6,
        reassign: bool = True,
        special_at: SpecialAt = "mean",
    ) -> None:
        super().__init__()
        if length < 3:
            raise UsageError(f"length={length}: need at least 3, for [CLS], a word and [SEP]")
        encoder, _ = load_encoder(model, config)
        if tokenizer is None and model is None:
            raise UsageError("tokenizer: needed beside config=…; give a folder or a vocabulary file")
        self.tokenizer = load_tokenizer(tokenizer or str(model))
        self.embeddings: Any = encoder.get_input_embeddings()
        self.encoder_config = encoder.config
        self.width, self.length = self.embeddings.embedding_dim, length
        self.reassign = reassign
        self.place_special(special_at, special_token)
        self.normalizer = LatentNormalizer(self.width, normalizer_eps, normalize)
        # The masked-LM head reads the top layer, not embeddings: this one always has to be fitted.
        self.head = LMHead(self.width, torch.arange(encoder.config.vocab_size))
        if fitted is not None:
            self.load_fit(fitted)
        self.freeze_backbone()

    def features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.embeddings(input_ids)

    def checkpoint_args(self) -> dict[str, Any]:
        return super().checkpoint_args() | portable_text_args(self.encoder_config, self.tokenizer)
