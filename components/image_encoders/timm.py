"""Any model of the timm library (Wightman 2019) as an image encoder."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor

from ladic.components.image_encoders.base import ImageEncoder
from ladic.errors import UsageError
from ladic.spec import absolute
from ladic.types import ImagePreprocess


class TimmEncoder(ImageEncoder):
    """Tokens from ``forward_features``: CNN maps (B, C, H, W) and transformer tokens alike become (B, N, C).

    Args:
        model_name: as in ``timm.list_models()``, e.g. "vit_small_patch14_dinov2" or "mobilenetv2_100".
        pretrained: fetch the weights that timm names; needs the hub or its cache.
        checkpoint_path: read the weights from this file instead (safetensors or a state dict).
        model_kwargs: passed to ``timm.create_model``, e.g. {"pad_type": "same", "img_size": 224}.
        image_size: side of the picture; None takes img_size of ``model_kwargs``, or else the model's own. The position
            embeddings of a transformer are interpolated to it.
        mean: per channel; None takes the model's own.
        std: per channel; None takes the model's own.
        frozen: no gradients, always in eval mode.
        resize: "squash" makes a square of the picture, "crop" takes its middle square, of the share that the model was
            tested with.
    """

    model: Any  # timm's classes share no typed base

    def __init__(
        self,
        model_name: str,
        pretrained: bool = False,
        checkpoint_path: str | None = None,
        model_kwargs: dict[str, Any] | None = None,
        image_size: int | None = None,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        frozen: bool = True,
        resize: Literal["squash", "crop"] = "squash",
    ) -> None:
        super().__init__()
        import timm

        if not timm.is_model(model_name.split(".")[0]):
            near = ", ".join(timm.list_models(f"*{model_name[:6]}*")[:5]) or "see timm.list_models()"
            raise UsageError(f"model_name='{model_name}': timm has no such model; near it: {near}")
        if checkpoint_path is not None and not Path(checkpoint_path).is_file():
            raise UsageError(
                f"checkpoint_path='{checkpoint_path}': no such file; give the weights' file or leave it out"
            )
        try:
            self.model = timm.create_model(
                model_name,
                pretrained=pretrained,
                num_classes=0,
                **(model_kwargs or {}),
            )
            if checkpoint_path is not None:
                _load(self.model, checkpoint_path)
        except (OSError, RuntimeError, TypeError, ValueError, SafetensorError, UnpicklingError) as error:
            raise _unreadable(model_name, pretrained, checkpoint_path, error) from error
        config = timm.data.resolve_data_config({}, model=self.model)
        built = (model_kwargs or {}).get("img_size")
        built = built[0] if isinstance(built, list | tuple) else built
        self.preprocess = ImagePreprocess(
            size=image_size or built or config["input_size"][-1],
            mean=tuple(mean or config["mean"]),
            std=tuple(std or config["std"]),
            interpolation=config["interpolation"] if config["interpolation"] in ("bilinear", "bicubic") else "bicubic",
            resize=resize,
            crop_share=config["crop_pct"] if resize == "crop" else 1.0,
        )
        self.frozen = frozen
        if frozen:
            self.freeze()
        training = self.model.training
        try:
            if image_size is not None and hasattr(self.model, "set_input_size"):
                self.model.set_input_size(img_size=image_size)
            with torch.set_grad_enabled(not frozen):
                probe = self.eval().encode(torch.zeros(1, 3, self.preprocess.size, self.preprocess.size))
        except AttributeError as error:
            raise UsageError(
                f"model_name='{model_name}': its forward_features gives neither a map nor a row of tokens ({error}); "
                "give another of timm.list_models()"
            ) from error
        except (AssertionError, RuntimeError) as error:
            raise UsageError(
                f"image_size={self.preprocess.size}: {model_name} can't take it ({str(error).strip().splitlines()[0]})"
            ) from error
        if not frozen:
            self.fix_unused(probe)
        self.model.train(training)
        self.num_tokens, self.width = probe.shape[1:]

    def checkpoint_args(self) -> dict[str, Any]:
        return {**super().checkpoint_args(), "pretrained": False, "checkpoint_path": None}

    def frozen_source(self) -> dict[str, Any] | None:
        given = self.__dict__["_init_args"]
        if not self.frozen or not (given["pretrained"] or given["checkpoint_path"]):
            return None
        return {"pretrained": given["pretrained"], "checkpoint_path": absolute(given["checkpoint_path"])}

    def encode(self, images: Tensor) -> Tensor:
        features = self.model.forward_features(images)
        if features.dim() == 4:
            # timm's CNNs give (B, C, H, W); some hybrids (Swin, MetaFormer) give (B, H, W, C) and say so.
            if getattr(self.model, "output_fmt", "NCHW") == "NHWC":
                return features.flatten(1, 2)
            return features.flatten(2).transpose(1, 2)
        return features


def _load(model: Any, checkpoint_path: str) -> None:
    """Loads a weights file; a classifier's weights, which this model was built without, may be over, nothing else."""
    import timm

    rest = timm.models.load_checkpoint(model, checkpoint_path, strict=False, weights_only=True)
    names = (model.pretrained_cfg or {}).get("classifier") or ()
    heads = tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))
    over = [key for key in rest.unexpected_keys if not key.startswith(heads)]
    if rest.missing_keys or over:
        what = f"{rest.missing_keys[0]} is missing" if rest.missing_keys else f"{over[0]} is unknown"
        raise ValueError(f"{len(rest.missing_keys) + len(over)} tensors don't match, {what}")


def _unreadable(name: str, pretrained: bool, checkpoint_path: str | None, error: Exception) -> UsageError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if checkpoint_path:
        return UsageError(f"checkpoint_path='{checkpoint_path}': its weights don't fit {name} ({reason})")
    if pretrained:
        return UsageError(
            f"model_name='{name}': its weights can't be fetched ({reason}); download the model's file from the hub and "
            "give it as --model.image_encoder.checkpoint_path=FILE"
        )
    return UsageError(f"model_name='{name}': timm can't build it ({reason}); check --model.image_encoder.model_kwargs")
