"""Muon for the hidden matrices of a network and AdamW for the rest, as one optimiser.

Muon (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks") replaces the momentum of a weight
matrix by the nearest matrix whose singular values are all about one, found with a few Newton-Schulz steps::

    B = mu B + G,   U = G + mu B (Nesterov),   O = NewtonSchulz(U / |U|),   W = W - lr (0.2 sqrt(max(m, n)) O + wd W)

The factor 0.2 sqrt(max(m, n)) gives the update the size that AdamW's has (Liu et al. 2025, "Muon is Scalable for LLM
Training", eq. 4), so that both share one learning rate. PyTorch's own ``torch.optim.Muon`` (2.9 and later) refuses
anything but matrices, and Lightning's automatic optimisation takes one optimiser.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ladic.errors import UsageError
from ladic.precision import computes_bf16

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic a X + b X X' X + c (X X')^2 X: steepest at 0, values stay in about [0.7, 1.2] (Jordan et al. 2024)."""


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """Matrices (K, m, n) with the same singular vectors and singular values near one.

    Example:
        >>> torch.linalg.svdvals(orthogonalize(torch.diag(torch.tensor([3.0, 1.0, 0.2]))[None])).min() > 0.6
        tensor(True)
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    # bf16 is enough, and where it would be emulated it takes longer than all the rest of a step.
    x = (matrices.mT if tall else matrices).to(torch.bfloat16 if computes_bf16(matrices.device.type) else torch.float32)
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class MuonAdamW(torch.optim.Optimizer):
    """Muon on the parameter groups marked ``hidden`` (see ``ladic.optim.parameter_groups``), AdamW on the others.

    Args:
        params: parameters or groups of them.
        lr: for both.
        momentum: of Muon.
        betas: of AdamW.
        eps: of AdamW.
        weight_decay: of both, decoupled.

    Raises:
        UsageError: for numbers out of range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        if lr < 0 or weight_decay < 0:
            raise UsageError(f"MuonAdamW lr={lr}, weight_decay={weight_decay}: neither may be negative")
        if not all(0 <= value < 1 for value in (momentum, *betas)):
            raise UsageError(f"MuonAdamW momentum={momentum}, betas={betas}: each lies in [0, 1)")
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "hidden": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient; what ``closure`` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            (self._muon if group["hidden"] else self._adamw)(parameters, group)
        return loss

    def _muon(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Matrices of one shape are orthogonalised together: one batched product instead of many small ones."""
        by_shape: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
        for parameter in parameters:
            by_shape[tuple(parameter.shape)].append(parameter)
        for (rows, columns), same in by_shape.items():
            gradients = [_grad(parameter) for parameter in same]
            buffers = self._buffers(same, "momentum_buffer")
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_add_(buffers, gradients)
            ahead = torch._foreach_add(gradients, buffers, alpha=group["momentum"])
            updates = _like(ahead, orthogonalize(torch.stack([_whole(value) for value in ahead])).unbind())
            torch._foreach_add_(same, updates, alpha=-group["lr"] * 0.2 * max(rows, columns) ** 0.5)

    def _adamw(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Adam's update (Kingma & Ba 2015, algorithm 1); the decay came before it (Loshchilov & Hutter 2019)."""
        first, second = self._buffers(parameters, "exp_avg"), self._buffers(parameters, "exp_avg_sq")
        gradients = [_grad(parameter) for parameter in parameters]
        beta1, beta2 = group["betas"]
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, value=1 - beta2)
        for parameter, mean, square in zip(parameters, first, second, strict=True):
            state = self.state[parameter]
            state["step"] = state.get("step", 0) + 1
            scale = (1 - beta2 ** state["step"]) ** 0.5
            parameter.addcdiv_(
                mean, square.sqrt().div_(scale).add_(group["eps"]), value=-group["lr"] / (1 - beta1 ** state["step"])
            )

    def _buffers(self, parameters: list[Tensor], name: str) -> list[Tensor]:
        for parameter in parameters:
            if name not in self.state[parameter]:
                self.state[parameter][name] = torch.zeros_like(parameter)
        return [self.state[parameter][name] for parameter in parameters]


def _whole(value: Any) -> Tensor:
    """A matrix whose rows may lie on several ranks (``ladic.sharding``): singular values are those of the whole."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def _like(places: Sequence[Any], values: Sequence[Tensor]) -> list[Tensor]:
    """Whole matrices, which every rank has, laid out over the ranks as others are."""
    if not hasattr(places[0], "full_tensor"):
        return list(values)
    from torch.distributed.tensor import distribute_tensor

    return [
        distribute_tensor(value, place.device_mesh, place.placements, src_data_rank=None)
        for place, value in zip(places, values, strict=True)
    ]


def _grad(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None  # `step` leaves out the others
    return parameter.grad
