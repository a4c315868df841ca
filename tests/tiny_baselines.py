"""Baseline captioners small enough for tests."""

from __future__ import annotations

from typing import Any

import torch
from tiny_captioner import CAPTIONS, IDS

from ladic.baselines import AutoregressiveCaptioner, DecoderSettings, MaskedDiffusionCaptioner
from ladic.captioner_base import Captioner
from ladic.components import ConvEncoder
from ladic.testing import tiny_tokenizer
from ladic.types import CaptionBatch

SIZES: dict[str, Any] = {"hidden_width": 32, "num_layers": 2, "num_heads": 2, "dropout": 0.0}


def autoregressive(init_seed: int = 4, **settings: Any) -> AutoregressiveCaptioner:
    """With the words, pictures and length of ``tiny_captioner.model``."""
    return _built(AutoregressiveCaptioner, init_seed, settings)


def masked(init_seed: int = 4, **settings: Any) -> MaskedDiffusionCaptioner:
    """Likewise."""
    return _built(MaskedDiffusionCaptioner, init_seed, settings)


def _built(kind: Any, init_seed: int, settings: dict[str, Any]) -> Any:
    torch.manual_seed(init_seed)
    sizes = {**SIZES, **settings.pop("sizes", {})}
    return kind(
        settings.pop("image_encoder", None) or ConvEncoder(image_size=16, channels=(8, 8)),
        **{"tokenizer": tiny_tokenizer(), "length": 12, "decoder": DecoderSettings(**sizes), **settings},
    )


def lively(captioner: Any) -> Any:
    """The same with larger weights, so that what it says depends on pictures and on words, untrained as it is."""
    with torch.no_grad():
        captioner.decoder.head.embedding.weight.mul_(40)
        captioner.decoder.head.bias.normal_(std=0.5)
    return captioner.eval()


def taught(captioner: Captioner, steps: int, lr: float = 1e-2) -> list[dict[str, float]]:
    """Trains on four pictures and their captions; what the losses were."""
    batch, told = pictures(captioner), []
    captioner.train()
    optimizer = torch.optim.AdamW([p for p in captioner.parameters() if p.requires_grad], lr=lr)
    for _ in range(steps):
        losses = captioner.losses(batch)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        told.append({name: float(value.detach()) for name, value in losses.items()})
    captioner.eval()
    return told


def pictures(captioner: Captioner, captions: list[str] | None = None, rows: int = 4) -> CaptionBatch:
    """Random image tokens with captions."""
    tokens = captioner.tokenize(captions or CAPTIONS[:rows])
    return {
        "image_tokens": torch.randn(rows, 16, 8, generator=torch.Generator().manual_seed(3)),
        "image_id": IDS[:rows],
        "input_ids": tokens.input_ids,
        "attention_mask": tokens.attention_mask,
    }
