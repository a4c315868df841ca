"""Number formats of cached tokens.

======  ==============  ===========================================================================
format  bytes a number  relative error of a rounded number
======  ==============  ===========================================================================
fp16    2               at most 2^-11; numbers up to 65504
bf16    2               at most 2^-8; any size
int8    1               at most 1/254 of the largest number of its channel in the picture
======  ==============  ===========================================================================
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ladic.errors import UsageError

NumberFormat = Literal["fp16", "bf16", "int8"]
FORMATS = ("fp16", "bf16", "int8")
STORED: dict[str, np.dtype[Any]] = {
    "fp16": np.dtype(np.float16),
    "bf16": np.dtype(np.int16),
    "int8": np.dtype(np.int8),
}
"""As what a format lies in a file; numpy has no bfloat16, so that its bits are kept as integers."""


def encode(tokens: Tensor, number_format: NumberFormat) -> tuple[np.ndarray, np.ndarray | None]:
    """Tokens (..., N, C) in a number format, and for int8 their scales (..., C).

    Raises:
        UsageError: if a number is not finite, or too large for the format.

    Example:
        >>> stored, scales = encode(torch.tensor([[1.0, -2.0], [0.5, 4.0]]), "int8")
        >>> stored.tolist(), decode(stored, scales, "int8").tolist()
        ([[127, -64], [64, 127]], [[1.0, -2.015625], [0.50390625, 4.0]])
    """
    tokens = tokens.detach().float().cpu()
    scales = None
    if number_format == "int8":
        scales = (tokens.abs().amax(-2) / 127).clamp_min(2.0**-14).half()  # no smaller: half floats lose digits there
        rounded = (tokens / scales.float().unsqueeze(-2)).round().clamp(-127, 127).to(torch.int8)
        fits = bool(tokens.isfinite().all() and scales.isfinite().all())
        stored = rounded.numpy()
    elif number_format == "bf16":
        rounded = tokens.to(torch.bfloat16)
        fits = bool(rounded.isfinite().all())
        stored = rounded.view(torch.int16).numpy()
    else:
        rounded = tokens.half()
        fits = bool(rounded.isfinite().all())
        stored = rounded.numpy()
    if not fits:
        largest = tokens.abs().max().item()
        hint = "the encoder gives numbers that are not finite" if not tokens.isfinite().all() else "use --format bf16"
        raise UsageError(f"--format {number_format}: can't hold the tokens (largest {largest:g}); {hint}")
    return stored, None if scales is None else scales.numpy()


def decode(stored: np.ndarray, scales: np.ndarray | None, number_format: NumberFormat) -> Tensor:
    """What ``encode`` stored: float16 tokens (..., N, C), bfloat16 ones where these were stored."""
    tokens = torch.from_numpy(stored.copy())
    if number_format == "bf16":
        return tokens.view(torch.bfloat16)
    if number_format == "int8":
        assert scales is not None
        return (tokens.float() * torch.from_numpy(scales.copy()).float().unsqueeze(-2)).half()
    return tokens


def first_not_whole(stem: Path, rows: int, manifest: dict[str, Any]) -> Path | None:
    """The first file of some rows that is missing or has another size than it must have; None if all are whole.

    Args:
        stem: of the files, without their endings.
        rows: pictures in them.
        manifest: of the cache.
    """
    views, width, number_format = manifest["views"], manifest["width"], manifest["format"]
    wanted = {".npy": _size((rows, views, manifest["num_tokens"], width), STORED[number_format])}
    if number_format == "int8":
        wanted[".scales.npy"] = _size((rows, views, width), np.dtype(np.float16))
    files = {stem.with_name(stem.name + ending): size for ending, size in wanted.items()}
    return next((file for file, size in files.items() if not file.is_file() or file.stat().st_size != size), None)


def _size(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Bytes of a .npy file."""
    head = io.BytesIO()
    entries = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(head, entries)
    return len(head.getvalue()) + int(np.prod(shape)) * dtype.itemsize
