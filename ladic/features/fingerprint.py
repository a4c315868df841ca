"""What the tokens of a picture follow from."""

from __future__ import annotations

import hashlib
import json

import torch
from torch import nn

from ladic.spec import class_path, describe
from ladic.types import ImagePreprocess


def fingerprint(encoder: nn.Module, preprocess: ImagePreprocess) -> dict[str, str]:
    """What determines the tokens of a picture: the encoder, its weights, and how the picture is prepared."""
    digest = hashlib.sha256()
    for name, value in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return {
        "encoder": class_path(type(encoder)),
        "settings": json.dumps(describe(encoder)["init_args"], sort_keys=True, default=str),
        "weights_sha256": digest.hexdigest(),
        "preprocess": str(preprocess),
    }
