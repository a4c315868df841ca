"""State dicts of the shape of a released LaDiC checkpoint, at any size; imported by the tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sizes:
    """Of a tiny released model; ids up to 1012, that of ".", have to exist."""

    vocabulary: int = 1100
    width: int = 16
    text_layers: int = 2
    decoder_layers: int = 4
    text_ffn: int = 24
    text_positions: int = 32
    image_width: int = 24
    image_layers: int = 2
    image_size: int = 16
    patch: int = 8
    hidden: int = 32
    layers: int = 2
    ffn: int = 40
    positions: int = 40
    diffuser_vocabulary: int = 64


FULL = Sizes(30522, 768, 6, 12, 3072, 512, 768, 12, 224, 16, 1536, 12, 3072, 512, 30524)
"""The sizes of the released checkpoint."""

Make = Callable[[tuple[int, ...], float, float], Tensor]
"""Makes a tensor of a shape, with a scale and a mean."""


def normal(seed: int) -> Make:
    generator = torch.Generator().manual_seed(seed)
    return lambda shape, scale, mean: mean + scale * torch.randn(shape, generator=generator)


def released_state(make: Make, sizes: Sizes = Sizes(), time_norm: bool = True) -> dict[str, Tensor]:
    """Every key of a released checkpoint."""
    state: dict[str, Tensor] = {}
    width, image, hidden = sizes.width, sizes.image_width, sizes.hidden

    def put(name: str, *shape: int, scale: float = 0.2, mean: float = 0.0) -> None:
        state[name] = make(shape, scale, mean)

    def dense(name: str, outputs: int, inputs: int) -> None:
        put(f"{name}.weight", outputs, inputs)
        put(f"{name}.bias", outputs)

    def norm(name: str, features: int) -> None:
        put(f"{name}.weight", features, scale=0.1, mean=1.0)
        put(f"{name}.bias", features, scale=0.1)

    def attention(name: str, features: int, source: int) -> None:
        for part, inputs in (("query", features), ("key", source), ("value", source)):
            dense(f"{name}.self.{part}", features, inputs)
        dense(f"{name}.output.dense", features, features)
        norm(f"{name}.output.LayerNorm", features)

    def feed_forward(name: str, features: int, inner: int) -> None:
        dense(f"{name}.intermediate.dense", inner, features)
        dense(f"{name}.output.dense", features, inner)
        norm(f"{name}.output.LayerNorm", features)

    def head(name: str) -> None:
        dense(f"{name}.predictions.transform.dense", width, width)
        norm(f"{name}.predictions.transform.LayerNorm", width)
        dense(f"{name}.predictions.decoder", sizes.vocabulary, width)
        state[f"{name}.predictions.bias"] = state[f"{name}.predictions.decoder.bias"]

    for tower, layers in (("space_encoder", sizes.text_layers), ("space_decoder", sizes.decoder_layers)):
        state[f"{tower}.embeddings.position_ids"] = torch.arange(sizes.text_positions)[None]
        put(f"{tower}.embeddings.word_embeddings.weight", sizes.vocabulary, width, scale=1.0)
        put(f"{tower}.embeddings.position_embeddings.weight", sizes.text_positions, width)
        put(f"{tower}.embeddings.token_type_embeddings.weight", 2, width)
        norm(f"{tower}.embeddings.LayerNorm", width)
        for layer in range(layers):
            attention(f"{tower}.encoder.layer.{layer}.attention", width, width)
            feed_forward(f"{tower}.encoder.layer.{layer}", width, sizes.text_ffn)
    head("space_decoder.cls")
    head("lm_head")
    put("visual_encoder.cls_token", 1, 1, image)
    put("visual_encoder.pos_embed", 1, (sizes.image_size // sizes.patch) ** 2 + 1, image)
    put("visual_encoder.patch_embed.proj.weight", image, 3, sizes.patch, sizes.patch, scale=0.05)
    put("visual_encoder.patch_embed.proj.bias", image)
    for block in range(sizes.image_layers):
        name = f"visual_encoder.blocks.{block}"
        norm(f"{name}.norm1", image)
        dense(f"{name}.attn.qkv", 3 * image, image)
        dense(f"{name}.attn.proj", image, image)
        norm(f"{name}.norm2", image)
        dense(f"{name}.mlp.fc1", 4 * image, image)
        dense(f"{name}.mlp.fc2", image, 4 * image)
    norm("visual_encoder.norm", image)
    state["diffuser.embeddings.position_ids"] = torch.arange(sizes.positions)[None]
    put("diffuser.embeddings.word_embeddings.weight", sizes.diffuser_vocabulary, hidden)
    put("diffuser.embeddings.position_embeddings.weight", sizes.positions, hidden)
    norm("diffuser.embeddings.LayerNorm", hidden)
    for layer in range(sizes.layers):
        attention(f"diffuser.encoder.layer.{layer}.attention", hidden, hidden)
        attention(f"diffuser.encoder.layer.{layer}.crossattention", hidden, image)
        feed_forward(f"diffuser.encoder.layer.{layer}", hidden, sizes.ffn)
    if time_norm:
        norm("time_layer_norm", hidden)
    return state


def tiny_state(seed: int = 0, time_norm: bool = True) -> dict[str, Tensor]:
    return released_state(normal(seed), time_norm=time_norm)


def write_vocabulary(file: Path, size: int = 1100) -> Path:
    """Words that stand where BERT's stand: [PAD] 0, [UNK] 100, [CLS] 101, [SEP] 102, [MASK] 103, "." 1012."""
    words = [f"[unused{n}]" for n in range(size)]
    words[0], words[100:104], words[1012] = "[PAD]", ["[UNK]", "[CLS]", "[SEP]", "[MASK]"], "."
    words[1013:1019] = ["a", "dog", "runs", "on", "grass", "##s"]
    file.write_text("\n".join(words))
    return file
