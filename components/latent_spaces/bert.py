"""A BERT split in two (paper §3.2): the lower layers make the latent, the upper ones read it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ladic.components.latent_spaces.backbone import (
    attention_bias,
    check_split,
    load_encoder,
    load_tokenizer,
    transformer_layers,
)
from ladic.components.latent_spaces.base import SpecialAt, TextLatentSpace
from ladic.components.latent_spaces.head import LMHead
from ladic.components.latent_spaces.memory import FeatureMemory
from ladic.components.latent_spaces.normalizer import LatentNormalizer
from ladic.errors import UsageError


class BertLatentSpace(TextLatentSpace):
    """Layers 1..k of a BERT-family model encode; layers k+1..n and the LM head decode.

    The upper layers run without a mask: every position, padding included, is part of the latent.

    Args:
        model: hub name, local folder, or "package:NAME/FOLDER" inside an installed package; e.g. "bert-base-uncased".
        layer: k; the paper's k for BERT-base is 6 of 12, Table 6 compares 3, 6 and 9.
        length: L, positions of a caption; 24 in the paper, 60 for paragraphs.
        config: instead of ``model``, a configuration for a small random BERT, e.g. {"hidden_size": 64, ...}.
        tokenizer: hub name, folder, vocabulary file or tokenizer.json text; None takes the model's own.
        fitted: file with statistics and head from ``ladic fit-space``.
        decoder_layers: how many of the layers above k the decoder runs, lowest first. None means all (the paper); 0
            leaves only the head (what the released code does: its decoder skips all of its layers).
        special_token: None gives special positions a fixed latent and the target [PAD] (the paper); a token such as
            "." gives them its raw feature and that token as target (the released code).
        special_at: where that fixed latent lies: at the "mean" of all words, which is zero (the paper), or "apart" from
            them, so that uncertain estimates aren't read as the end of the caption.
        normalize: standardise the features; without, they are the latents.
        normalizer_eps: added to the standard deviation (the paper; 0 in the released code).
        reassign: give special positions that latent; without, they keep their features and are their own targets.
        encoder_dropout: draw the frozen text model's dropout in training, so that x0 is a noisy target, fresh in each
            step (the released code).
        remember: captions whose features are kept in memory from the first time that they are trained on: layers that
            are frozen say the same of them in every epoch. Takes L x D numbers a caption (20 x 384 in bf16: 15 kB).

    Example:
        >>> from ladic.testing import tiny_text_space
        >>> space = tiny_text_space(layer=1)
        >>> tokens = space.tokenize(["a red circle"])
        >>> space.encode(tokens.input_ids, tokens.attention_mask).shape
        torch.Size([1, 12, 32])
    """

    def __init__(
        self,
        model: str | None = None,
        layer: int = 6,
        length: int = 24,
        config: dict[str, Any] | None = None,
        tokenizer: str | None = None,
        fitted: str | None = None,
        special_token: str | None = None,
        decoder_layers: int | None = None,
        normalize: bool = True,
        normalizer_eps: float = 1e-6,
        reassign: bool = True,
        encoder_dropout: bool = False,
        special_at: SpecialAt = "mean",
        remember: int = 0,
    ) -> None:
        super().__init__()
        if remember < 0 or (remember and encoder_dropout):
            raise UsageError(
                f"remember={remember}, encoder_dropout={str(encoder_dropout).lower()}: accepted is a number of "
                "captions, and 0 where every step has other features"
            )
        self.memory = FeatureMemory(remember)
        self.register_load_state_dict_post_hook(_forget)
        encoder, pretrained_head = load_encoder(model, config)
        layers = transformer_layers(encoder)
        if not 1 <= layer <= len(layers):
            raise UsageError(
                f"layer={layer}: the model has {len(layers)} layers, accepted are 1 to {len(layers)} "
                "(layer 0 is EmbeddingLatentSpace)"
            )
        if tokenizer is None and model is None:
            raise UsageError("tokenizer: needed beside config=…; give a folder or a vocabulary file")
        self.tokenizer = load_tokenizer(tokenizer or str(model))
        self.embeddings: Any = encoder.embeddings
        self.lower = nn.ModuleList(layers[:layer])
        above = len(layers) - layer
        if decoder_layers is not None and not 0 <= decoder_layers <= above:
            raise UsageError(
                f"decoder_layers={decoder_layers}: the model has {above} layers above layer {layer}; accepted are 0 to "
                f"{above}, or null for all"
            )
        self.upper = nn.ModuleList(layers[layer : None if decoder_layers is None else layer + decoder_layers])
        self.encoder_config = encoder.config
        self.width, self.length, self.layer = encoder.config.hidden_size, length, layer
        # RoBERTa numbers positions from behind the one of padding.
        padding = getattr(getattr(self.embeddings, "position_embeddings", None), "padding_idx", None)
        limit = encoder.config.max_position_embeddings - (0 if padding is None else padding + 1)
        if not 3 <= length <= limit:
            raise UsageError(f"length={length}: accepted are 3 to {limit}, the positions of the text model")
        self.reassign, self.encoder_dropout = reassign, encoder_dropout
        self.place_special(special_at, special_token)
        self.normalizer = LatentNormalizer(self.width, normalizer_eps, normalize)
        head = LMHead(self.width, torch.arange(encoder.config.vocab_size))
        self.trained_head = pretrained_head is not None and head.copy_pretrained(pretrained_head)
        self.head = head
        check_split(encoder, layer, self._features, self.tokenizer, length)
        if fitted is not None:
            self.load_fit(fitted)
        self.freeze_backbone()

    def features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Hidden state k of the text model; padding is masked out of the attention."""
        if self.memory.capacity and self.training:
            return self.memory(input_ids, attention_mask, self._features)
        return self._features(input_ids, attention_mask)

    def _features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = self.embeddings(input_ids=input_ids)
        bias = attention_bias(attention_mask, hidden)
        for layer in self.lower:
            hidden = first(layer(hidden, attention_mask=bias))
        return hidden

    def refine(self, features: Tensor) -> Tensor:
        """The upper layers."""
        for layer in self.upper:
            features = first(layer(features))
        return features

    def checkpoint_args(self) -> dict[str, Any]:
        """A configuration and the tokenizer's text stand in for the folder or hub model they came from."""
        return super().checkpoint_args() | portable_text_args(self.encoder_config, self.tokenizer)


def _forget(space: Any, _: Any) -> None:
    """Other weights say other things of the same captions."""
    space.memory.known.clear()


def first(output: Any) -> Tensor:
    """Hidden states of a transformer layer; some models return them as the first of a tuple."""
    return output[0] if isinstance(output, tuple) else output


def portable_text_args(config: Any, tokenizer: Any) -> dict[str, Any]:
    """Constructor arguments that rebuild a text model with neither folder nor hub."""
    values = config.to_diff_dict() | {"model_type": config.model_type}
    plain = {key: value for key, value in values.items() if isinstance(value, bool | int | float | str)}
    plain.pop("dtype", None)
    text = tokenizer.backend_tokenizer.to_str()
    return {"model": None, "config": plain, "tokenizer": text, "fitted": None}
