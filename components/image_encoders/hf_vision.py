"""The vision tower of any transformers model (BLIP, CLIP, SigLIP, DINOv2, ViT) as an image encoder."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ladic.components.image_encoders.base import ImageEncoder
from ladic.errors import UsageError
from ladic.spec import absolute
from ladic.types import ImagePreprocess

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALVES = (0.5, 0.5, 0.5)
PIXEL_STATISTICS = {  # the values each family was trained with, where no preprocessor_config.json says so
    "clip_vision_model": (CLIP_MEAN, CLIP_STD),
    "blip_vision_model": (CLIP_MEAN, CLIP_STD),
    "siglip_vision_model": (HALVES, HALVES),
    "siglip2_vision_model": (HALVES, HALVES),
    "vit": (HALVES, HALVES),
    "beit": (HALVES, HALVES),
}


class HFVisionEncoder(ImageEncoder):
    """Last hidden state of a vision tower, the [CLS] token included where there is one, in float32.

    Args:
        model: hub name or local folder of a model with a vision tower; None builds one from ``config``.
        config: for a tower with random weights: a vision configuration as a mapping, e.g.
            {"model_type": "clip_vision_model", "hidden_size": 64, ...}.
        image_size: side of the picture; None takes the tower's own.
        mean: per channel; None takes the model's own.
        std: per channel; None takes the model's own.
        frozen: no gradients, always in eval mode.
        resize: "squash" makes a square of the picture, "crop" scales its shorter side and takes the middle.
    """

    def __init__(
        self,
        model: str | None = None,
        config: dict[str, Any] | None = None,
        image_size: int | None = None,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        frozen: bool = True,
        resize: Literal["squash", "crop"] = "squash",
    ) -> None:
        super().__init__()
        if (model is None) == (config is None):
            raise UsageError("HFVisionEncoder: give either model=NAME_OR_FOLDER or config={model_type: …}, not both")
        self.model = _load_tower(model) if model is not None else _random_tower(config or {})
        self.register_load_state_dict_pre_hook(_skip_pooling)
        vision = self.model.config
        lacking = [key for key in ("image_size", "hidden_size") if not hasattr(vision, key)]
        if lacking:
            raise UsageError(
                f"model_type='{vision.model_type}': no vision transformer with tokens of one width (its config has "
                f"no {lacking[0]}); give one such as clip_vision_model or dinov2; TimmEncoder has convolutional ones"
            )
        size = image_size or vision.image_size
        self.interpolate = size != vision.image_size
        own_mean, own_std = _pixel_statistics(model, vision.model_type)
        self.preprocess = ImagePreprocess(
            size=size, mean=tuple(mean or own_mean), std=tuple(std or own_std), resize=resize
        )
        self.width = vision.hidden_size
        self.frozen = frozen
        if frozen:
            self.freeze()
        # Asked rather than computed: [CLS], registers and a distillation token differ between the families.
        training = self.model.training
        try:
            with torch.set_grad_enabled(not frozen):
                tokens = self.eval().encode(torch.zeros(1, 3, size, size))
            if tokens.dim() != 3 or tokens.shape[2] != self.width:
                raise ValueError(f"gives {tuple(tokens.shape)} and not tokens of width {self.width}")
        except (TypeError, ValueError, RuntimeError) as error:
            raise UsageError(
                f"model_type='{vision.model_type}' at image_size={size}: takes no picture "
                f"({str(error).strip().splitlines()[0]}); give a vision tower such as clip_vision_model or dinov2"
            ) from error
        self.num_tokens = tokens.shape[1]
        if not frozen:
            self.fix_unused(tokens)
        self.model.train(training)

    def checkpoint_args(self) -> dict[str, Any]:
        kept = super().checkpoint_args()
        if kept.get("model") is None:
            return kept
        # What the folder or the hub said is written out, so that neither is needed again.
        config = self.model.config.to_diff_dict() | {"model_type": self.model.config.model_type}
        return {
            **kept,
            "model": None,
            "config": {key: value for key, value in config.items() if key not in ("architectures", "dtype")},
            "mean": self.preprocess.mean,
            "std": self.preprocess.std,
        }

    def frozen_source(self) -> dict[str, Any] | None:
        model = self.__dict__["_init_args"]["model"]
        return {"model": absolute(model), "config": None} if self.frozen and model is not None else None

    def encode(self, images: Tensor) -> Tensor:
        extra = {"interpolate_pos_encoding": True} if self.interpolate else {}
        return self.model(pixel_values=images, **extra).last_hidden_state


def _tower_class(model_type: str) -> tuple[Any, Any]:
    """Configuration and model class of a vision tower."""
    import transformers
    from transformers import AutoModel

    special = {
        "clip_vision_model": (transformers.CLIPVisionConfig, transformers.CLIPVisionModel),
        "blip_vision_model": (transformers.BlipVisionConfig, transformers.BlipVisionModel),
        "siglip_vision_model": (transformers.SiglipVisionConfig, transformers.SiglipVisionModel),
    }
    if model_type in special:
        return special[model_type]
    try:
        config_class = transformers.CONFIG_MAPPING[model_type]
    except KeyError as error:
        raise UsageError(f"model_type='{model_type}': transformers knows no such vision model") from error
    return config_class, AutoModel


def _random_tower(config: dict[str, Any]) -> Any:
    values = dict(config)
    model_type = values.pop("model_type", None)
    if model_type is None:
        raise UsageError("config: needs model_type, e.g. clip_vision_model, blip_vision_model, dinov2 or vit")
    config_class, model_class = _tower_class(model_type)
    settings = config_class(**_with_blip_eps(model_type, values))
    build = getattr(model_class, "from_config", model_class)
    return _without_pooling(build(settings))


def _load_tower(name: str) -> Any:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(name)
        vision = getattr(config, "vision_config", config)
        model_type = vision.model_type
        _, model_class = _tower_class(model_type)
        for key, value in _with_blip_eps(model_type, {}).items():
            setattr(vision, key, value)
        # transformers finds the tower in a whole model of every family but BLIP's.
        inside = {r"^vision_model\.": ""} if model_type == "blip_vision_model" else None
        model, info = model_class.from_pretrained(
            name, config=vision, dtype=torch.float32, key_mapping=inside, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(
            f"model='{name}': can't be loaded ({str(error).strip().splitlines()[0]}); download config.json and "
            "model.safetensors of it into a folder and give that folder"
        ) from error
    model = _without_pooling(model)
    missing = sorted(set(info["missing_keys"]) & {key for key, _ in model.named_parameters()})
    if missing:
        raise UsageError(
            f"model='{name}': lacks weights of a {model_type} ({len(missing)}, such as {missing[0]}); give a model "
            "that holds its whole vision tower"
        )
    return model


def _without_pooling(model: Any) -> Any:
    """Takes off what makes one vector of the tokens: nobody reads it, and where a file lacks it it is random."""
    if "add_pooling_layer" in inspect.signature(type(model)).parameters:
        model.pooler = None
    if getattr(model, "use_head", False):  # SigLIP
        model.use_head = model.config.vision_use_head = False
        model.head = None
    return model


def _skip_pooling(encoder: Any, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Checkpoints from before hold what ``_without_pooling`` takes off."""
    gone = tuple(f"{prefix}model.{part}." for part in ("pooler", "head") if getattr(encoder.model, part, None) is None)
    for key in [key for key in state if key.startswith(gone)]:
        del state[key]


def _with_blip_eps(model_type: str, values: dict[str, Any]) -> dict[str, Any]:
    # BLIP was trained with 1e-6; transformers' default for it is 1e-5 and changes the tokens by 2e-3.
    return {"layer_norm_eps": 1e-6, **values} if model_type == "blip_vision_model" else values


def _pixel_statistics(name: str | None, model_type: str) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    from transformers.utils import cached_file

    try:
        file = None if name is None else cached_file(name, "preprocessor_config.json")
    except OSError:  # the folder or the repository has none, or there is no hub
        file = None
    values = {} if file is None else json.loads(Path(file).read_text())
    if "image_mean" in values and "image_std" in values:
        return tuple(values["image_mean"]), tuple(values["image_std"])
    return PIXEL_STATISTICS.get(model_type, (IMAGENET_MEAN, IMAGENET_STD))
