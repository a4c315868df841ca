"""Faster captioning: weights in half precision, and compiled parts.

What needs float32 keeps it: the noise, the sampler's arithmetic, the statistics of the latent space and the softmax
over words. The image encoder, the denoiser, the decoder of words and the text layers compute in the precision of their
weights and are handed float32 at their doors (``ImageEncoder.forward``, ``TransformerDenoiser.enter``,
``CaptionDecoder.context``, ``TextLatentSpace.decode``).
Unlike autocast this casts every weight once, not in every step, and on a CPU packs it once.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ladic.components.denoisers.base import Context
from ladic.errors import UsageError
from ladic.precision import computes_bf16

if TYPE_CHECKING:
    from ladic.captioner_base import Captioner

T = TypeVar("T")
Precision = Literal["auto", "fp32", "bf16", "fp16"]
COMPILERS = ("g++", "clang++")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def weight_dtype(precision: Precision, device: str = "cpu") -> torch.dtype:
    """What weights are held in; "auto" is bf16 where the device type computes it, fp32 elsewhere.

    Raises:
        UsageError: for another word.
    """
    if precision not in get_args(Precision):
        raise UsageError(f"precision='{precision}': accepted are {', '.join(get_args(Precision))}")
    if precision == "auto":
        return torch.bfloat16 if computes_bf16(device) else torch.float32
    return DTYPES[precision]


def cast_weights(model: Captioner, dtype: torch.dtype) -> None:
    """What a captioner names as its ``cast_parts`` in ``dtype``."""
    for part in model.cast_parts():
        for module in part.modules():
            if isinstance(vars(module).get("forward"), PackedLinear):
                delattr(module, "forward")
        part.to(dtype)


def pack_weights(*parts: nn.Module) -> None:
    """Linear layers of ``parts`` on a CPU read their half-precision weights in the matrix units' own layout.

    The plain way brings them into it at every call, which takes up to half of the time where rows are few, as those of
    a caption are. Costs the weights' memory once more. Weights that are loaded later are read the plain way.
    """
    for part in parts:
        for module in part.modules():
            if type(module) is nn.Linear and _packable(module.weight):
                packed = PackedLinear(module)
                packed.pack()
                setattr(module, "forward", packed)  # noqa: B010  # mypy takes methods for fixed


def _packable(weight: Tensor) -> bool:
    supported = {
        torch.bfloat16: torch.ops.mkldnn._is_mkldnn_bf16_supported,
        torch.float16: torch.ops.mkldnn._is_mkldnn_fp16_supported,
    }
    if weight.device.type != "cpu" or weight.is_inference():  # those of inference mode don't tell that they changed
        return False
    return weight.dtype in supported and bool(supported[weight.dtype]())


class PackedLinear:
    """What a linear layer does, with a packed copy of its weights; stands in the place of its ``forward``.

    Args:
        linear: on a CPU, in half precision.
    """

    def __init__(self, linear: nn.Linear) -> None:
        self.linear = linear
        self.packed: Tensor | None = None
        self.version = -1
        self.dtype: torch.dtype | None = None

    def pack(self) -> None:
        """Of the weights as they are now."""
        weight = self.linear.weight
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
        self.version, self.dtype = weight._version, weight.dtype

    def __call__(self, x: Tensor) -> Tensor:
        weight, bias = self.linear.weight, self.linear.bias
        if self.packed is None:
            self.pack()
        same = weight._version == self.version and weight.dtype == x.dtype == self.dtype and x.device.type == "cpu"
        if not same or torch.is_grad_enabled():
            return F.linear(x, weight, bias)
        output: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, bias, "none", [], "")
        return output

    def __deepcopy__(self, memo: dict[int, Any]) -> PackedLinear:
        return PackedLinear(copy.deepcopy(self.linear, memo))  # which has no weights yet, so that it packs them later


def compile_parts(model: Captioner) -> None:
    """``torch.compile`` of a captioner's ``compiled_methods``; each compiles at its first call.

    On a CPU the weights are frozen into the compiled code, packed as the matrix units want them, and changes to them
    after the first call aren't seen. On a GPU the kernels of a step run as one CUDA graph.

    Raises:
        UsageError: for a captioner that names none, or where a CPU has no compiler.
    """
    methods = model.compiled_methods()
    if not methods:
        raise UsageError(f"compile: not for {type(model).__name__}, whose steps have shapes of their own each")
    gpu = model.device.type == "cuda"
    if not gpu and not any(map(shutil.which, COMPILERS)):
        raise UsageError(f"compile: needs a C++ compiler ({' or '.join(COMPILERS)}), and found none; install g++")
    settings: dict[str, Any] = {"mode": "reduce-overhead"} if gpu else {}
    wrap = _kept if gpu else _frozen
    for part, method in methods:
        setattr(part, method, wrap(torch.compile(getattr(part, method), **settings)))
    model.compiled = True


def padded(rows: list[T], size: int) -> list[T]:
    """``size`` of them, the last repeated."""
    return rows + rows[-1:] * (size - len(rows))


def _frozen(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles with weights as constants.

    ``torch.compile(options={"freezing": True})`` alone doesn't: Dynamo, which has to leave the parameters in the graph,
    reads the setting itself and not the options (pytorch#139272).
    """
    import torch._inductor.config as inductor

    def called(*args: Any, **kwargs: Any) -> Any:
        with inductor.patch(freezing=True):  # microseconds
            return function(*args, **kwargs)

    return called


def _kept(function: Callable[..., Tensor | Context]) -> Callable[..., Tensor | Context]:
    """A CUDA graph's outputs lie where the next run writes: they are copied before that."""

    def called(*args: Any, **kwargs: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()
        output = function(*args, **kwargs)
        return Context(tuple(map(torch.clone, output.tensors))) if isinstance(output, Context) else output.clone()

    return called
