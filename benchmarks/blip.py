"""transformers' BLIP-base with random weights: an autoregressive captioner to measure ours against.

It reads pictures through the very ViT that ours has, so that what differs is how text comes about.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.full_size import SIZES, Size, autocast
from ladic.acceleration import pack_weights
from ladic.components import ImageEncoder

MODES = ("fp32", "autocast", "bf16")
"""How it computes: bf16 by autocasting, or by weights that are bf16."""


class SharedVision(nn.Module):
    """An image encoder in the place of transformers' vision tower."""

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pixel_values: Tensor, **_: Any) -> tuple[Tensor]:
        """Tokens (B, N, C) as the first of the outputs, all that generation looks at."""
        return (self.encoder(pixel_values.to(next(self.encoder.parameters()).dtype)),)


def blip(encoder: ImageEncoder, tokenizer: Any, size: Size = SIZES["paper"], seed: int = 0) -> Any:
    """``BlipForConditionalGeneration`` of BLIP-base's sizes, in eval mode.

    Args:
        encoder: copied, because its precision follows the model's.
        tokenizer: says which ids are special; [DEC], which begins a caption, and [ENC] come after its words.
        size: of the text decoder, that of BERT.
        seed: of the weights.
    """
    from transformers import BlipConfig, BlipForConditionalGeneration

    torch.manual_seed(seed)
    words = size.text_config["vocab_size"]
    special = {"bos_token_id": words, "sep_token_id": tokenizer.sep_token_id, "pad_token_id": tokenizer.pad_token_id}
    vision = {"hidden_size": encoder.width, "intermediate_size": 4 * encoder.width, "num_hidden_layers": 1}
    config = BlipConfig(
        text_config={**size.text_config, **special, "vocab_size": words + 2, "eos_token_id": tokenizer.sep_token_id},
        vision_config={**vision, "num_attention_heads": size.vision[2], "image_size": size.image_size},
    )
    model: Any = BlipForConditionalGeneration(config)
    model.vision_model = SharedVision(copy.deepcopy(encoder))
    return model.eval()


def in_mode(model: Any, mode: str) -> Any:
    """The model for one of ``MODES``; in bf16 a copy, whose weights a CPU has packed as it has ours."""
    if mode != "bf16":
        return model
    model = copy.deepcopy(model).to(torch.bfloat16)
    pack_weights(model)
    return model


def captioning(model: Any, tokenizer: Any, mode: str) -> Callable[..., tuple[Tensor, list[str]]]:
    """``run(images (B,3,H,W), length, beams)``, from pixels to ids (B, length) and strings, in one of ``MODES``.

    Exactly ``length`` words come out: as many are the least and the most, so that the end of the caption is never
    chosen. Keys and values are cached, transformers' default.
    """

    @torch.inference_mode()
    def run(images: Tensor, length: int, beams: int = 1) -> tuple[Tensor, list[str]]:
        with autocast("bf16" if mode == "autocast" else "fp32", images.device.type):
            ids = model.generate(
                images,
                min_new_tokens=length,
                max_new_tokens=length,
                num_beams=beams,
                do_sample=False,
                use_cache=True,
            )[:, 1:]
        return ids, tokenizer.batch_decode(ids, skip_special_tokens=True)

    return run
