"""Samplers on a Gaussian N(mu, s^2), whose denoiser is known: E[x0 | x_t] = mu + k (x_t - sqrt(a) mu).

Every walk is then affine in the starting noise and in each later draw, so that one batch of impulses (one row for
each noise term, and one without any) gives the mean and variance of the samples exactly, with no Monte Carlo.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from ladic.components import CosineSchedule, DDIMSampler, LinearSchedule, RenoiseSampler, Sampler
from ladic.types import SamplingStep

MU, S = 1.5, 0.6
LOW, HIGH = 0.1, 20.0


def alpha_bar(t: np.ndarray) -> np.ndarray:
    """The continuous linear schedule, in float64."""
    return np.exp(-(LOW * t + (HIGH - LOW) * t**2 / 2))


def gain(a: np.ndarray) -> np.ndarray:
    """k of E[x0 | x_t] = mu + k (x_t - sqrt(a) mu), for prior variance s^2 and noise variance 1 - a."""
    return np.sqrt(a) * S**2 / (a * S**2 + 1 - a)


def denoise(x_t: Tensor, t: Tensor, x0_prev: Tensor | None) -> Tensor:
    a = alpha_bar(t.double().numpy())
    k, signal = (torch.from_numpy(value).view(-1, 1, 1) for value in (gain(a), np.sqrt(a)))
    return MU + k * (x_t - signal * MU)


def moments(sampler: Sampler) -> tuple[float, float]:
    """Exact mean and variance of what the sampler makes of the Gaussian."""
    rows = sampler.num_steps + 1  # no noise; noise at the start; noise in draw 1, 2, ...
    start = torch.zeros(rows, 1, 1, dtype=torch.float64)
    start[1] = 1
    drawn = 0

    def draw() -> Tensor:
        nonlocal drawn
        drawn += 1
        impulse = torch.zeros_like(start)
        impulse[1 + drawn] = 1
        return impulse

    result = sampler.sample(denoise, start, LinearSchedule(), draw).flatten().numpy()
    return float(result[0]), float(((result[1:] - result[0]) ** 2).sum())


def test_deterministic_ddim_reaches_the_gaussian() -> None:
    # The flow divides by the spread at t = 1 and multiplies by s, so that starting at 0 and not at sqrt(a) mu, as
    # samplers do, leaves s sqrt(a) mu of the mean undone.
    start = alpha_bar(np.array(1.0))
    mean, variance = moments(DDIMSampler(800, eta=0.0))
    assert mean == pytest.approx(MU - S * np.sqrt(start) * MU, abs=1e-4)
    assert variance == pytest.approx(S**2, rel=1e-2)


def test_ddim_with_eta_1_reaches_the_gaussian() -> None:
    mean, variance = moments(DDIMSampler(800, eta=1.0))
    assert mean == pytest.approx(MU, abs=5e-3)
    assert variance == pytest.approx(S**2, rel=3e-2)


def test_more_noise_contracts_more_at_few_steps() -> None:
    spread = [moments(sampler)[1] for sampler in (DDIMSampler(10), DDIMSampler(10, 0.5), DDIMSampler(10, 1.0))]
    assert spread[0] > spread[1] > spread[2] > moments(RenoiseSampler(10))[1]


def test_the_error_of_deterministic_ddim_falls_linearly_with_the_steps() -> None:
    errors = [abs(moments(DDIMSampler(steps))[1] ** 0.5 - S) for steps in (25, 50, 100, 200)]
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert ((orders > 0.8) & (orders < 1.2)).all(), orders


@pytest.mark.parametrize("steps", [1, 2, 7, 40])
def test_renoising_has_the_moments_of_its_recursion(steps: int) -> None:
    # Re-noising forgets x_t, so only the moments of the estimate carry over: with m and v those of x0_hat,
    # x_s has mean sqrt(a) m and variance a v + 1 - a, and the next x0_hat is affine in it.
    times = np.linspace(1, 0, steps + 1)[:-1]
    mean_x, variance_x = 0.0, 1.0
    for t, s in zip(times, [*times[1:], None], strict=True):
        a = alpha_bar(t)
        m, v = MU + gain(a) * (mean_x - np.sqrt(a) * MU), gain(a) ** 2 * variance_x
        if s is not None:
            mean_x, variance_x = np.sqrt(alpha_bar(s)) * m, alpha_bar(s) * v + 1 - alpha_bar(s)
    assert moments(RenoiseSampler(steps)) == pytest.approx((m, v), abs=1e-5)


def test_renoising_has_half_the_variance_in_the_limit() -> None:
    # At a fixed time v = k^2 (a v + 1 - a) settles at k^2 (1 - a) / (1 - a k^2). With a = 1 - e, k = 1 - e / s^2 up to
    # e^2 and a k^2 = 1 - 2 e / s^2 (the parts in e alone cancel), so v -> s^2 / 2 as e -> 0: the mean is right, the
    # spread too small by sqrt(2) however many steps are taken.
    mean, variance = moments(RenoiseSampler(1500))
    assert mean == pytest.approx(MU, abs=5e-3)
    assert variance == pytest.approx(S**2 / 2, rel=2e-2)


def transcribed(kind: str, eta: float, x_t: np.ndarray, x0: np.ndarray, a_t: float, a_s: float, z: np.ndarray):
    if kind == "renoise":
        return np.sqrt(a_s) * x0 + np.sqrt(1 - a_s) * z
    eps = (x_t - np.sqrt(a_t) * x0) / np.sqrt(1 - a_t)
    sigma = eta * np.sqrt((1 - a_s) / (1 - a_t)) * np.sqrt(1 - a_t / a_s)
    return np.sqrt(a_s) * x0 + np.sqrt(1 - a_s - sigma**2) * eps + sigma * z


@pytest.mark.parametrize(
    ("sampler", "kind", "eta"),
    [
        (DDIMSampler(5), "ddim", 0.0),
        (DDIMSampler(5, eta=0.3), "ddim", 0.3),
        (DDIMSampler(5, eta=1.0), "ddim", 1.0),
        (RenoiseSampler(5), "renoise", 0.0),
    ],
)
def test_one_step_is_the_papers_formula(sampler: Sampler, kind: str, eta: float) -> None:
    generator = np.random.default_rng(1)
    x_t, x0, z = generator.normal(size=(3, 2, 4, 3))
    t, s = 0.7, 0.4
    tensors = [torch.from_numpy(value) for value in (x_t, x0, z)]
    times = torch.tensor([t, t], dtype=torch.float64), torch.tensor([s, s], dtype=torch.float64)
    ours = sampler.step(tensors[0], tensors[1], *times, LinearSchedule(), lambda: tensors[2])
    expected = transcribed(kind, eta, x_t, x0, float(alpha_bar(np.array(t))), float(alpha_bar(np.array(s))), z)
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("make", [DDIMSampler, RenoiseSampler, lambda n: DDIMSampler(n, eta=1.0)])
@pytest.mark.parametrize("steps", [1, 3, 10])
def test_evaluations_are_num_steps_and_the_last_time_is_above_zero(make: Callable[[int], Sampler], steps: int) -> None:
    asked: list[float] = []
    fed: list[Tensor | None] = []
    seen: list[SamplingStep] = []
    estimates: list[Tensor] = []

    def network(x_t: Tensor, t: Tensor, x0_prev: Tensor | None) -> Tensor:
        assert bool((t == t[0]).all())
        asked.append(float(t[0]))
        fed.append(x0_prev)
        estimates.append(torch.randn_like(x_t))
        return estimates[-1]

    draws = 0

    def draw() -> Tensor:
        nonlocal draws
        draws += 1
        return torch.randn(2, 3, 4)

    result = make(steps).sample(network, torch.randn(2, 3, 4), CosineSchedule(), draw, seen.append)
    np.testing.assert_allclose(asked, 1 - np.arange(steps) / steps, atol=1e-6)
    assert asked[-1] > 0, "at t = 0 there is no noise to take away"
    assert result is estimates[-1], "the last estimate is the answer"
    assert fed[0] is None
    assert all(given is made for given, made in zip(fed[1:], estimates, strict=False)), "each estimate is fed back"
    assert [(step.index, step.t) for step in seen] == [(i, pytest.approx(t)) for i, t in enumerate(asked)]
    assert draws <= steps - 1, "no noise is drawn for a step that is not taken"


def test_deterministic_ddim_draws_nothing() -> None:
    def refuse() -> Tensor:
        raise AssertionError("eta = 0 has no noise")

    DDIMSampler(4).sample(denoise, torch.zeros(1, 1, 1).double(), LinearSchedule(), refuse)


def test_impossible_settings_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="num_steps=0: a sampler needs at least one step"):
        RenoiseSampler(0)
    with pytest.raises(ValueError, match=r"eta=1\.5: need 0 <= eta <= 1"):
        DDIMSampler(eta=1.5)
