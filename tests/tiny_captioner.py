"""A captioner small enough for tests, with batches of four pictures and a trainer for it."""

import functools
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from ladic.captioner import LatentDiffusionCaptioner
from ladic.components import (
    ConvEncoder,
    CrossAttentionDenoiser,
    DDIMSampler,
    DenoiserFactory,
)
from ladic.testing import tiny_text_space
from ladic.types import CaptionBatch

CAPTIONS = ["a red circle", "a blue square", "two small dogs run", "a green star"]
IDS: list[int | str] = [1, 2, 3, "four"]
SMALL: dict[str, Any] = {"hidden_width": 32, "num_layers": 1, "num_heads": 2, "dropout": 0.0}


def model(denoiser: DenoiserFactory | None = None, init_seed: int = 4, **settings: Any) -> LatentDiffusionCaptioner:
    torch.manual_seed(init_seed)
    return LatentDiffusionCaptioner(
        settings.pop("image_encoder", None) or ConvEncoder(image_size=16, channels=(8, 8)),
        settings.pop("latent_space", None) or tiny_text_space(),
        denoiser or functools.partial(CrossAttentionDenoiser, **SMALL),
        **{"optimizer": functools.partial(torch.optim.AdamW, lr=3e-3), "sampler": DDIMSampler(3), **settings},
    )


def training_batch(captioner: LatentDiffusionCaptioner) -> CaptionBatch:
    tokens = captioner.tokenize(CAPTIONS)
    generator = torch.Generator().manual_seed(8)
    return {
        "image": torch.randn(4, 3, 16, 16, generator=generator),
        "image_id": IDS,
        "input_ids": tokens.input_ids,
        "attention_mask": tokens.attention_mask,
    }


def evaluation_batch(captioner: LatentDiffusionCaptioner, references: list[list[str]] | None = None) -> CaptionBatch:
    batch = training_batch(captioner)
    return {
        "image": batch["image"],
        "image_id": IDS,
        "references": references or [[caption] for caption in CAPTIONS],
    }


def trainer(folder: Path, **settings: Any) -> Trainer:
    return Trainer(
        **{
            "default_root_dir": folder,
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "max_steps": 2,
            "limit_val_batches": 0,
            **settings,
        }
    )


def loader(batch: CaptionBatch) -> DataLoader[Any]:
    """One batch, as it is."""
    return DataLoader([batch], batch_size=None)  # type: ignore[arg-type]


def fit(
    captioner: LatentDiffusionCaptioner, folder: Path, batch: CaptionBatch | None = None, **settings: Any
) -> Trainer:
    run = trainer(folder, **settings)
    batches = loader(batch or training_batch(captioner))
    run.fit(captioner, batches)
    return run


def learn(captioner: LatentDiffusionCaptioner, steps: int) -> list[float]:
    """Losses of a plain training loop on one batch, each of the same noise."""
    captioner.train()
    optimizer = torch.optim.AdamW([p for p in captioner.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(steps):
        torch.manual_seed(1)
        loss = captioner.losses(training_batch(captioner))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


class Watching(CrossAttentionDenoiser):
    """Notes the image tokens and estimates it is given."""

    shares_context = True

    def __init__(self, *, width: int, length: int, cond_width: int) -> None:
        super().__init__(width=width, length=length, cond_width=cond_width, **SMALL)
        self.tokens: list[Tensor] = []
        self.earlier: list[Tensor | None] = []

    def context(self, image_tokens: Tensor) -> Any:
        self.tokens.append(image_tokens.detach())
        return super().context(image_tokens)

    def forward(self, x_t: Tensor, t: Tensor, context: Any, x0_prev: Tensor | None = None) -> Tensor:
        self.earlier.append(x0_prev)
        return super().forward(x_t, t, context, x0_prev)


def watched(**settings: Any) -> tuple[LatentDiffusionCaptioner, Watching]:
    captioner = model(Watching, **settings)
    with torch.no_grad():
        captioner.null_token.normal_()
    assert isinstance(captioner.denoiser, Watching)
    return captioner, captioner.denoiser
