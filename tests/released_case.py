"""A released model as ours and as arrays, and what comparing them takes; imported by the tests of the released code."""

from typing import Any

import torch
from torch import Tensor

from ladic.captioner import LatentDiffusionCaptioner
from ladic.components import RenoiseSampler
from ladic.conversion import released_captioner
from ladic.guidance import GuidedDenoiser

HEADS = {"text_heads": 4, "image_heads": 4, "diffuser_heads": 8}
CLOSE: dict[str, float] = {"atol": 2e-5, "rtol": 0}
CAPTIONS = ["a dog runs on grass.", "dogs", "", "a. dog. on.", "grass " * 40, "a zebra!"]


class Case:
    """A tiny released model, as ours and as arrays."""

    def __init__(self, state: dict[str, Tensor], tokenizer: str, mean: Tensor, std: Tensor, **heads: int) -> None:
        self.model, self.dropped = released_captioner(state, mean, std, tokenizer=tokenizer, **(heads or HEADS))
        self.weights = {key: value.double().numpy() for key, value in state.items()}
        self.mean, self.std = mean.double().numpy(), std.double().numpy()


def doubles(*tensors: Tensor) -> list[Any]:
    return [tensor.double().numpy() for tensor in tensors]


def close(ours: Tensor, theirs: Any, atol: float = 2e-5) -> None:
    theirs = torch.as_tensor(theirs, dtype=torch.float64)
    assert ours.shape == theirs.shape
    gap = (ours.double() - theirs).abs().max().item()
    assert gap <= atol, f"off by {gap:.2e}"


def sample(
    model: LatentDiffusionCaptioner, images: Tensor, noises: list[Tensor], stride: int, estimates: list[Tensor]
) -> Tensor:
    """Our sampler on noise that was recorded, keeping every estimate."""
    tokens, rest = model.image_encoder(images), iter(noises)
    guided = GuidedDenoiser(
        model.denoiser,
        model.denoiser.context(tokens),
        model.denoiser.context(model.null_tokens(tokens)),
        model.guidance,
    )
    first = next(rest)

    def denoise(x_t: Tensor, t: Tensor, x0_prev: Tensor | None) -> Tensor:
        estimates.append(guided(x_t, t, x0_prev))
        return estimates[-1]

    return RenoiseSampler(stride=stride).sample(denoise, first, model.noise_schedule, lambda: next(rest))
