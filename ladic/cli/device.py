"""Where a command's model runs: ``--device``."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from ladic.errors import UsageError

if TYPE_CHECKING:
    from torch.nn import Module

M = TypeVar("M", bound="Module")


def on_device(module: M, device: str) -> M:
    """The module where it is to run; "auto" is a GPU where there is one.

    Raises:
        UsageError: if there is no such device.
    """
    import torch

    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        return module.to(torch.device(name))
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {device}: {str(error).splitlines()[0]}") from error
