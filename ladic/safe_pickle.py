"""Tensors out of pickle files, without running the code that a pickle may hold.

The released project keeps mean and deviation of its latent space in plain pickles of tensors, which ``torch.load``
doesn't read with ``weights_only``.
"""

from __future__ import annotations

import collections
import importlib
import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ladic.errors import UsageError

ALLOWED = {
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch", "Tensor"),
    *((module, "_reconstruct") for module in ("numpy.core.multiarray", "numpy._core.multiarray")),
    *((module, "_frombuffer") for module in ("numpy.core.numeric", "numpy._core.numeric")),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}
"""What pickles of tensors and arrays name; none of it runs anything but the making of arrays."""


class _TensorUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return _storage  # PyTorch's own would unpickle whatever the bytes hold
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("_codecs", "encode"):
            return _bytes
        if (module, name) in ALLOWED:
            return getattr(importlib.import_module(module), name)
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no tensor needs")


def _storage(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _bytes(text: str, encoding: str) -> bytes:
    """How old pickles keep bytes; other codecs could be made to do other things."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it names the codec {encoding}, which no tensor needs")
    return text.encode(encoding)


def load_tensor(path: str | Path) -> Tensor:
    """The tensor in a file that ``torch.save`` or ``pickle.dump`` made of a tensor or a NumPy array.

    Raises:
        UsageError: if the file is missing or damaged, holds anything else, or code.
    """
    file = Path(path)
    if not file.is_file():
        raise UsageError(f"'{file}': no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a plain pickle is no file of torch.save
            value = torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # not a file of torch.save
        try:
            with file.open("rb") as opened:
                value = _TensorUnpickler(opened).load()
        except Exception as error:  # what a damaged pickle raises depends on where the damage is
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UsageError(f"'{file}': not a pickled tensor ({reason}); nothing in it was run") from error
    if not isinstance(value, Tensor):
        try:
            value = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UsageError(f"'{file}': holds a {type(value).__name__}, not a tensor") from error
    return value.detach()
