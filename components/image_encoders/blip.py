"""BLIP's vision transformer (Li et al. 2022), LaDiC's image encoder (paper §4.1)."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ladic.components.image_encoders.base import ImageEncoder
from ladic.components.image_encoders.hf_vision import CLIP_MEAN, CLIP_STD
from ladic.components.image_encoders.positions import resize_positions
from ladic.errors import UsageError
from ladic.spec import absolute
from ladic.types import ImagePreprocess

Size = Literal["base", "large"]
SIZES = {"base": (768, 12, 12), "large": (1024, 24, 16)}
"""Width, layers and heads of ViT-B and ViT-L."""

HUB_KEYS = (
    (r"embeddings\.class_embedding", "cls_token"),
    (r"embeddings\.position_embedding", "pos_embed"),
    (r"embeddings\.patch_embedding\.(weight|bias)", r"patch_embed.proj.\1"),
    (r"encoder\.layers\.(\d+)\.self_attn\.qkv\.(weight|bias)", r"blocks.\1.attn.qkv.\2"),
    (r"encoder\.layers\.(\d+)\.self_attn\.projection\.(weight|bias)", r"blocks.\1.attn.proj.\2"),
    (r"encoder\.layers\.(\d+)\.layer_norm([12])\.(weight|bias)", r"blocks.\1.norm\2.\3"),
    (r"encoder\.layers\.(\d+)\.mlp\.(fc[12])\.(weight|bias)", r"blocks.\1.mlp.\2.\3"),
    (r"post_layernorm\.(weight|bias)", r"norm.\1"),
)
"""Names in transformers' BLIP and in the original, which are timm's."""


class BlipEncoder(ImageEncoder):
    """All tokens of BLIP's ViT after its last LayerNorm: [CLS] and one for each patch of 16 by 16 pixels.

    The hub's captioning models were saved at 384 pixels. At 224, which is LaDiC's size and what the base model was
    pretrained at, the smaller grid of position embeddings is the one whose enlargement is nearest to the stored grid;
    for that model it is the original one again.

    Args:
        weights: hub name, folder or file of a BLIP: transformers' (``model.safetensors``) or the original's
            (``model_base_capfilt_large.pth``). null starts from random weights.
        size: "base" is ViT-B/16, "large" ViT-L/16.
        image_size: side of the picture, a multiple of ``patch_size``; position embeddings are interpolated to it.
        width, depth, num_heads: instead of those that ``size`` names.
        patch_size: side of a patch.
        frozen: no gradients, always in eval mode.

    Example:
        >>> encoder = BlipEncoder(weights=None, width=32, depth=1, num_heads=2, image_size=64)
        >>> encoder(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 17, 32])
    """

    def __init__(
        self,
        weights: str | None = "Salesforce/blip-image-captioning-base",
        size: Size = "base",
        image_size: int = 224,
        width: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        patch_size: int = 16,
        frozen: bool = True,
    ) -> None:
        super().__init__()
        from timm.models.vision_transformer import VisionTransformer

        if size not in get_args(Size):
            raise UsageError(f"size='{size}': accepted are {' and '.join(get_args(Size))}")
        if image_size < patch_size or image_size % patch_size:
            raise UsageError(f"image_size={image_size}: accepted are multiples of patch_size={patch_size}")
        known = SIZES[size]
        self.width, layers, heads = width or known[0], depth or known[1], num_heads or known[2]
        if self.width % heads:
            raise UsageError(f"width={self.width}, num_heads={heads}: the width must divide by the heads")
        self.model: Any = VisionTransformer(
            img_size=image_size,
            patch_size=patch_size,
            embed_dim=self.width,
            depth=layers,
            num_heads=heads,
            num_classes=0,
            global_pool="",
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
        )
        self.num_tokens = (image_size // patch_size) ** 2 + 1
        self.preprocess = ImagePreprocess(size=image_size, mean=CLIP_MEAN, std=CLIP_STD)
        if weights is not None:
            self._load(read_blip(weights), weights)
        self.frozen = frozen
        if frozen:
            self.freeze()

    def encode(self, images: Tensor) -> Tensor:
        return self.model.forward_features(images)

    def checkpoint_args(self) -> dict[str, Any]:
        return {**super().checkpoint_args(), "weights": None}

    def frozen_source(self) -> dict[str, Any] | None:
        weights = self.__dict__["_init_args"]["weights"]
        return {"weights": absolute(weights)} if self.frozen and weights is not None else None

    def _load(self, state: dict[str, Tensor], weights: str) -> None:
        own = self.model.state_dict()
        if "pos_embed" in state:
            state["pos_embed"] = resize_positions(state["pos_embed"], self.num_tokens - 1)
        wrong = [f"{key} is missing" for key in own if key not in state]
        wrong += [f"{key} is unknown" for key in state if key not in own]
        wrong += [
            f"{key} is {tuple(state[key].shape)}, not {tuple(value.shape)}"
            for key, value in own.items()
            if key in state and state[key].shape != value.shape
        ]
        if wrong:
            raise UsageError(
                f"weights='{weights}': {len(wrong)} tensors don't fit a BLIP vision tower of this size "
                f"({'; '.join(wrong[:3])}); size=base and size=large are accepted"
            )
        self.model.load_state_dict(state)


def read_blip(weights: str) -> dict[str, Tensor]:
    """The vision tower in a BLIP's weights, under the original's names.

    Raises:
        UsageError: if the file can't be had or read.
    """
    state = _read(_file(weights))
    hub = {m[1]: value for key, value in state.items() if (m := re.fullmatch(r"(?:.+\.)?vision_model\.(.+)", key))}
    if hub:
        return {_original_name(key): value for key, value in hub.items()}
    original = {
        key.removeprefix("visual_encoder."): value for key, value in state.items() if key.startswith("visual_encoder.")
    }
    return original or dict(state)


def _original_name(key: str) -> str:
    for pattern, name in HUB_KEYS:
        if found := re.fullmatch(pattern, key):
            return found.expand(name)
    return key


def _file(weights: str) -> Path:
    path, names = Path(weights), ("model.safetensors", "pytorch_model.bin")
    if path.is_file():
        return path
    if path.is_dir():
        found = next((path / name for name in names if (path / name).is_file()), None)
        if found is None:
            raise UsageError(f"weights='{weights}': the folder holds neither {' nor '.join(names)}")
        return found
    from huggingface_hub import hf_hub_download

    reason = ""
    for name in names:
        try:
            return Path(hf_hub_download(weights, name))
        except (OSError, ValueError) as error:
            reason = reason or str(error).strip().splitlines()[0]
    raise UsageError(
        f"weights='{weights}': neither a file nor a folder, and the hub doesn't give it ({reason}); download "
        "model.safetensors of Salesforce/blip-image-captioning-base and give its path"
    )


def _read(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file raises depends on where the damage is
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"weights='{file}': can't be read as tensors ({reason}); is the file complete?") from error
    state = state.get("model", state) if isinstance(state, dict) else {}
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise UsageError(f"weights='{file}': holds no state dict; give BLIP's model.safetensors or .pth file")
    return state
