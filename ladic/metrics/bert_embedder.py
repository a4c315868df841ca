"""Token embeddings of captions for BERTScore: a masked language model cut off after one of its layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from ladic.metrics.functional.bert_score import bert_score
from ladic.metrics.functional.jars import Unavailable
from ladic.metrics.functional.ngrams import FloatArray

ROBERTA_LARGE_LAYER = 17  # the layer its authors recommend, by correlation with people on WMT16


class BertEmbedder:
    """Embeds captions by a transformers model.

    Args:
        model: a name on the Hugging Face hub or a local folder.
        num_layers: embeddings are the output of this layer, counted from 1; 17 for roberta-large if None.
        device: where the model runs.
        batch_size: captions at a time.

    Raises:
        Unavailable: when the model can't be had.
        ValueError: when ``num_layers`` is missing for another model or larger than the model has.
    """

    def __init__(
        self,
        model: str | Path = "roberta-large",
        num_layers: int | None = None,
        device: str | torch.device = "cpu",
        batch_size: int = 64,
    ) -> None:
        from transformers import AutoModel, AutoTokenizer

        if num_layers is None:
            if Path(model).name != "roberta-large":
                raise ValueError(f"BERTScore by '{model}' needs num_layers, the layer whose embeddings are compared")
            num_layers = ROBERTA_LARGE_LAYER
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(model)
            network = AutoModel.from_pretrained(model)
        except (OSError, ValueError) as error:
            first = str(error).strip().splitlines()[0]
            raise Unavailable(f"BERTScore needs the model '{model}', a hub name or a local folder: {first}") from error
        depth = network.config.num_hidden_layers
        if not 1 <= num_layers <= depth:
            raise ValueError(f"num_layers={num_layers}: '{model}' has layers 1 to {depth}")
        self.network = network.eval().requires_grad_(False).to(device)
        self.num_layers = num_layers
        self.device = torch.device(device)
        self.batch_size = batch_size
        self.name = f"{model}, layer {num_layers}, no idf, no rescaling"

    def score(
        self, captions: Sequence[str], references: Sequence[Sequence[str]], images_at_once: int = 256
    ) -> FloatArray:
        """(I, 3) P, R and F of captions as written (not tokenised) against the best of their references."""
        scores = np.zeros((len(captions), 3))
        for start in range(0, len(captions), images_at_once):
            part = range(start, min(start + images_at_once, len(captions)))
            embedded = self.embed(text for i in part for text in (captions[i], *references[i]))
            for i in part:
                scores[i] = bert_score(embedded[captions[i]], [embedded[text] for text in references[i]])
        return scores

    @torch.no_grad()
    def embed(self, texts: Iterable[str]) -> dict[str, FloatArray]:
        """Text -> (T, D) float32 embeddings, the opening and the closing token included."""
        unique = sorted(set(texts), key=lambda text: (len(text), text))
        # RoBERTa tells a word at the start of a text from one after a space; BERTScore has all of them after a space.
        lead = " " if "roberta" in type(self.tokenizer).__name__.lower() else ""
        embedded: dict[str, FloatArray] = {}
        for start in range(0, len(unique), self.batch_size):
            part = unique[start : start + self.batch_size]
            stripped = [lead + text.strip() if text.strip() else "" for text in part]
            limit = min(self.tokenizer.model_max_length, self.network.config.max_position_embeddings - 2)
            batch = self.tokenizer(stripped, padding=True, truncation=True, max_length=limit, return_tensors="pt")
            batch = batch.to(self.device)
            states = self.network(**batch, output_hidden_states=True).hidden_states[self.num_layers].float().cpu()
            for text, state, mask in zip(part, states, batch["attention_mask"].cpu().bool(), strict=True):
                embedded[text] = state[mask].numpy()
        return embedded
