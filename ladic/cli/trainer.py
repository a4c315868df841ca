"""Lightning's Trainer with ``precision=auto``."""

from __future__ import annotations

from typing import Any, Literal

import torch
from lightning import Trainer
from lightning.pytorch.trainer.connectors.accelerator_connector import _PRECISION_INPUT
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from ladic.precision import computes_bf16


class PrecisionTrainer(Trainer):
    """Lightning's Trainer, which also knows ``precision="auto"``.

    Args:
        precision: Lightning's, or "auto": bf16-mixed on devices that compute bf16, 32-true on others. Default: 32-true.
    """

    def __init__(self, precision: Literal["auto"] | _PRECISION_INPUT | None = None, **kwargs: Any) -> None:
        if precision == "auto":
            device = _device(kwargs.get("accelerator", "auto"))
            precision = "bf16-mixed" if computes_bf16(device) else "32-true"
            why = "has" if precision == "bf16-mixed" else "has no"
            rank_zero_info(f"precision auto: {precision} (this {device} device {why} bf16 instructions)")
        super().__init__(precision=precision, **kwargs)


def _device(accelerator: Any) -> str:
    """The device type that Lightning will choose."""
    if accelerator in ("auto", "gpu"):
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    return str(getattr(accelerator, "name", accelerator))
