"""Frozen backbones stay out of checkpoints, which name where they come from and how they hash.

A backbone that is the same for all runs would be most of every checkpoint. What is left out must be the same again when
the checkpoint is loaded, which its hash tells.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ladic.errors import UsageError
from ladic.spec import Buildable, describe

PARTS = ("image_encoder", "latent_space")
STATES = ("state_dict", "current_model_state")
"""Where a checkpoint holds weights; the second is there beside averaged ones."""


def frozen_parts(model: nn.Module) -> dict[str, dict[str, Any]]:
    """For each part whose frozen weights have a source: its ``source`` arguments, and ``sha256`` of the weights."""
    parts = {}
    for name in PARTS:
        component: Any = getattr(model, name, None)
        source = component.frozen_source() if isinstance(component, Buildable) else None
        if source is not None:
            keys = frozen_keys(component)
            parts[name] = {"source": describe(source), "sha256": digest(component.state_dict(), keys)}
    return parts


def frozen_keys(component: nn.Module) -> list[str]:
    """Names of the weights that training leaves alone and that come from the component's source."""
    kept = tuple(f"{part}." for part in getattr(component, "fitted_parts", ()))
    return sorted(key for key in component.state_dict() if not key.startswith(kept))


def digest(state: dict[str, Tensor], keys: Iterable[str]) -> str:
    """Hash of tensors with their names and types."""
    found = hashlib.sha256()
    for key in keys:
        value = state[key].detach().cpu().contiguous()
        found.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def leave_out(model: nn.Module, checkpoint: dict[str, Any], parts: dict[str, dict[str, Any]]) -> None:
    """Takes the frozen weights of ``parts`` out of a checkpoint and notes where they come from."""
    checkpoint["ladic"]["frozen"] = parts
    gone = {f"{name}.{key}" for name in parts for key in frozen_keys(getattr(model, name))}
    for state in STATES:
        if state in checkpoint:
            checkpoint[state] = {key: value for key, value in checkpoint[state].items() if key not in gone}


def put_back(model: nn.Module, checkpoint: dict[str, Any]) -> None:
    """Completes a checkpoint with the frozen weights of a model that was built from their source.

    Raises:
        UsageError: if they are not those that the checkpoint was trained with.
    """
    for name, part in checkpoint["ladic"].get("frozen", {}).items():
        component = getattr(model, name)
        own, keys = component.state_dict(), frozen_keys(component)
        if digest(own, keys) != part["sha256"]:
            raise UsageError(
                f"model.{name}: its frozen weights are not those that the checkpoint was trained with: {told(part)} "
                f"(sha256 {part['sha256'][:12]}…); give those"
            )
        for state in STATES:
            if state in checkpoint:
                checkpoint[state] |= {f"{name}.{key}": own[key].clone() for key in keys}


def told(part: dict[str, Any]) -> str:
    """Where frozen weights come from, in words.

    >>> told({"source": {"model": "bert-base-uncased", "config": None}})
    'model=bert-base-uncased'
    """
    return ", ".join(f"{key}={value}" for key, value in part["source"].items() if value not in (None, False))
