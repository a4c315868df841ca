"""Samplers on a Gaussian N(mu, s^2), whose denoiser is known: E[x0 | x_t] = mu + k (x_t - sqrt(a) mu).

Every walk is then affine in the starting noise and in each later draw, so that one batch of impulses (one row for
each noise term, and one without any) gives the mean and variance of the samples exactly, with no Monte Carlo.
"""

import sys
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import Tensor

from ladic.components import (
    AncestralSampler,
    CosineSchedule,
    DDIMSampler,
    DiffusersSampler,
    DilatedSchedule,
    DPMSolverSampler,
    HeunSampler,
    LinearSchedule,
    NoiseSchedule,
    RenoiseSampler,
    Sampler,
)
from ladic.components.samplers.base import Evaluations
from ladic.components.samplers.spacing import spaced_times
from ladic.errors import UsageError
from ladic.types import SamplingStep

DIFFUSERS = ("DPMSolverMultistepScheduler", "EulerDiscreteScheduler") if find_spec("diffusers") else ()
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


# A mixture of two Gaussians in the plane, whose posterior mean is a softmax over the two.

WEIGHTS, CENTRES, SPREADS = np.array([0.3, 0.7]), np.array([[-1.5, 0.5], [1.0, -0.8]]), np.array([0.3, 0.5])


def mixture_mean(x: np.ndarray, a: float) -> np.ndarray:
    """E[x0 | x_t] for x (..., 2) at alpha_bar a."""
    variance = a * SPREADS**2 + 1 - a
    gap = x[..., None, :] - np.sqrt(a) * CENTRES
    logits = np.log(WEIGHTS) - np.log(variance) - (gap**2).sum(-1) / (2 * variance)
    share = np.exp(logits - logits.max(-1, keepdims=True))
    share /= share.sum(-1, keepdims=True)
    means = CENTRES + (np.sqrt(a) * SPREADS**2 / variance)[:, None] * gap
    return (share[..., None] * means).sum(-2)


def mixture_denoise(x_t: Tensor, t: Tensor, x0_prev: Tensor | None) -> Tensor:
    return torch.from_numpy(mixture_mean(x_t.numpy(), float(alpha_bar(float(t[0])))))


DETERMINISTIC = {"ddim": DDIMSampler, "dpm": DPMSolverSampler, "heun": HeunSampler}


@pytest.mark.parametrize(
    "sampler",
    [
        DDIMSampler(100),
        DDIMSampler(100, spacing="log_snr"),
        DDIMSampler(100, spacing="quadratic"),
        DDIMSampler(200, eta=0.7),
        AncestralSampler(200),
        AncestralSampler(400, variance="large"),
        DPMSolverSampler(40),
        DPMSolverSampler(30, spacing="log_snr"),
        HeunSampler(30),
        HeunSampler(20, spacing="log_snr"),
        *(DiffusersSampler(name, 50) for name in DIFFUSERS),
    ],
    ids=lambda sampler: f"{type(sampler).__name__}-{sampler.spacing}-{getattr(sampler, 'scheduler', '')}",
)
def test_samples_of_the_mixture_have_its_mean_and_covariance(sampler: Sampler) -> None:
    generator = torch.Generator().manual_seed(4)

    def draw() -> Tensor:
        return torch.randn(6000, 1, 2, generator=generator, dtype=torch.float64)

    found = sampler.sample(mixture_denoise, draw(), LinearSchedule(), draw)[:, 0].numpy()
    mean = WEIGHTS @ CENTRES
    spread = (WEIGHTS * SPREADS**2).sum() * np.eye(2) + (WEIGHTS[:, None] * (CENTRES - mean)).T @ (CENTRES - mean)
    np.testing.assert_allclose(found.mean(0), mean, atol=0.06)
    np.testing.assert_allclose(np.cov(found.T), spread, atol=0.08)
    # And of each part by itself, so that spreads are right and not only the distance of the centres.
    for centre, size in zip(CENTRES, SPREADS, strict=True):
        near = found[((found - centre) ** 2).sum(1) < ((found - CENTRES.sum(0) + centre) ** 2).sum(1)]
        np.testing.assert_allclose(near.std(0), size, rtol=0.15)


def flowed(x: np.ndarray, t: float, s: float, steps: int = 3000) -> np.ndarray:
    """The probability-flow ODE by Runge-Kutta in y = x / sqrt(a), rho = sqrt((1 - a) / a): dy/drho = (y - x0) / rho."""
    a_t, a_s = alpha_bar(np.array(t)), alpha_bar(np.array(s))
    rho, end = np.sqrt((1 - a_t) / a_t), np.sqrt((1 - a_s) / a_s)
    y = x / np.sqrt(a_t)

    def slope(y: np.ndarray, rho: float) -> np.ndarray:
        a = 1 / (1 + rho**2)
        return (y - mixture_mean(y * np.sqrt(a), a)) / rho

    ratio = (end / rho) ** (1 / steps)  # steps of one ratio
    for _ in range(steps):
        h = rho * ratio - rho
        k1 = slope(y, rho)
        k2 = slope(y + h / 2 * k1, rho + h / 2)
        k3 = slope(y + h / 2 * k2, rho + h / 2)
        k4 = slope(y + h * k3, rho + h)
        y, rho = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), rho + h
    return y * np.sqrt(a_s)


@pytest.mark.parametrize(("name", "order"), [("ddim", 1), ("dpm", 2), ("heun", 2)])
def test_the_order_of_convergence_on_the_mixture(name: str, order: int) -> None:
    start = np.random.default_rng(5).normal(size=(40, 1, 2))
    exact = flowed(start, 0.8, 0.15)
    errors = []
    for steps in (32, 64, 128, 256):
        sampler = DETERMINISTIC[name](steps)
        times = torch.linspace(0.8, 0.15, steps + 1, dtype=torch.float64)
        ask = Evaluations(mixture_denoise)
        found = sampler.walk(ask, torch.from_numpy(start), times, LinearSchedule(), lambda: torch.zeros(1))
        errors.append(float(np.sqrt(((found.numpy() - exact) ** 2).mean())))
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert orders[-1] == pytest.approx(order, abs=0.25), (errors, orders)


@pytest.mark.parametrize("spacing", ["uniform", "quadratic"])
def test_heun_passes_over_entries_of_a_table_without_noise(spacing: str) -> None:
    def nearly(x_t: Tensor, t: Tensor, x0_prev: Tensor | None) -> Tensor:
        return 0.9 * x_t

    for schedule in (LinearSchedule(num_steps=1000), CosineSchedule(num_steps=1000)):
        found = HeunSampler(50, spacing=spacing).sample(  # type: ignore[arg-type]
            nearly, torch.ones(1, 1, 1), schedule, lambda: torch.zeros(1)
        )
        assert found.abs().max() < 10


def test_heun_evaluates_twice_a_step_but_once_at_the_end() -> None:
    asked: list[SamplingStep] = []
    HeunSampler(5).sample(
        denoise, torch.zeros(2, 1, 1).double(), LinearSchedule(), lambda: torch.zeros(1), asked.append
    )
    np.testing.assert_allclose([step.t for step in asked], [1, 0.8, 0.8, 0.6, 0.6, 0.4, 0.4, 0.2, 0.2], atol=1e-6)


def test_small_posterior_variance_is_ddim_with_eta_1() -> None:
    assert moments(AncestralSampler(12)) == pytest.approx(moments(DDIMSampler(12, eta=1.0)), abs=1e-5)


@pytest.mark.parametrize("factor", [1.0, 2.0, 0.5])
@pytest.mark.parametrize("sampler", [DDIMSampler(), DDIMSampler(eta=0.5), AncestralSampler(), RenoiseSampler()])
def test_a_step_leaves_the_noise_that_the_schedule_has(sampler: Sampler, factor: float) -> None:
    """From x_t = sqrt(a_t) x0 + sigma_t eps a step to s has the mean and variance of the process at s."""
    schedule = DilatedSchedule(CosineSchedule(), sampling=factor)
    t, s = torch.full((3,), 0.6), torch.full((3,), 0.35)
    x0, impulse = torch.full((3, 1, 1), 2.0), torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1)
    x_t = schedule.add_noise(x0, t, impulse)  # one row without noise, one with that of x_t, one with the draw's
    x_s = sampler.step(x_t, x0, t, s, schedule, lambda: impulse.roll(1, 0)).flatten()
    torch.testing.assert_close(x_s[0], 2 * schedule.alpha_bar(s)[0].sqrt())
    torch.testing.assert_close((x_s[1:] - x_s[0]).norm(), schedule.sigma(s)[0])


def test_large_variance_is_right_for_standard_normal_data() -> None:
    # DDPM §3.2: with x0 ~ N(0, 1) the estimate is sqrt(a_t) x_t, and beta keeps the variance of x_t at 1.
    schedule, rng = LinearSchedule(), np.random.default_rng(2)
    x_t, z = torch.from_numpy(rng.normal(size=(2, 20000, 1, 1)))
    t, s = (torch.full((20000,), time, dtype=torch.float64) for time in (0.6, 0.5))
    x0 = float(np.sqrt(alpha_bar(np.array(0.6)))) * x_t
    x_s = AncestralSampler(2, variance="large").step(x_t, x0, t, s, schedule, lambda: z)
    assert float(x_s.var()) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("schedule", [LinearSchedule(), CosineSchedule(), LinearSchedule(1000)])
def test_log_snr_spacing_has_equal_steps(schedule: NoiseSchedule) -> None:
    times = spaced_times(12, "log_snr", schedule)
    assert (float(times[0]), float(times[-1])) == (1, 0)
    steps = schedule.log_snr(times[1:-1].double()).diff()  # the cosine's floor makes its first one flat
    np.testing.assert_allclose(steps, steps.mean().expand(10), rtol=0.05)


def test_a_scheduler_of_diffusers_makes_the_steps_that_ours_makes() -> None:
    pytest.importorskip("diffusers")
    start = torch.from_numpy(np.random.default_rng(6).normal(size=(50, 1, 2)))
    schedule = LinearSchedule()
    theirs = DiffusersSampler("DDIMScheduler", 50)
    ours = DDIMSampler(50)
    times = theirs.times(schedule)
    assert len(times) == 51
    ask = Evaluations(mixture_denoise)
    expected = ours.walk(ask, start, times.double(), schedule, lambda: torch.zeros(1))
    found = theirs.sample(mixture_denoise, start, schedule, lambda: torch.zeros(50, 1, 2))
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-4)


def test_a_row_with_a_scheduler_that_draws_does_not_depend_on_its_batch() -> None:
    pytest.importorskip("diffusers")
    generator = np.random.default_rng(7)
    noise = torch.from_numpy(generator.normal(size=(2, 4, 3, 2)))  # start, and the draw that seeds
    sampler = DiffusersSampler("DDPMScheduler", 5)
    together = sampler.sample(mixture_denoise, noise[0], LinearSchedule(), lambda: noise[1])
    alone = sampler.sample(mixture_denoise, noise[0, 2:3], LinearSchedule(), lambda: noise[1, 2:3])
    torch.testing.assert_close(together[2:3], alone)
    assert not torch.allclose(together[0], together[1])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DiffusersSampler("DDIMSchedular"), "diffusers has no such scheduler"),
        (lambda: DiffusersSampler("VQDiffusionScheduler"), "it takes no prediction_type"),
        (lambda: DiffusersSampler("DDIMScheduler", options={"etta": 1}), "DDIMScheduler has no 'etta'"),
        (lambda: DiffusersSampler("DDIMScheduler", 1001), "num_steps=1001"),
    ],
)
def test_diffusers_mistakes_are_named(make: Callable[[], Sampler], words: str) -> None:
    pytest.importorskip("diffusers")
    with pytest.raises(UsageError, match=words):
        make()


def test_without_diffusers_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(UsageError, match=r"pip install 'ladic\[diffusers\]'"):
        DiffusersSampler()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DDIMSampler(spacing="even"), "spacing='even': accepted are uniform, quadratic, log_snr"),  # type: ignore[arg-type]
        (lambda: AncestralSampler(variance="huge"), "variance='huge': accepted are small, large"),  # type: ignore[arg-type]
    ],
)
def test_unknown_words_are_refused(make: Callable[[], Sampler], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()
