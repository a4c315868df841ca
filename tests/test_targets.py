"""Prediction targets, loss weights and the sampling of times."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ladic.components import CosineSchedule, CrossAttentionDenoiser, LinearSchedule
from ladic.errors import UsageError
from ladic.guidance import ClassifierFreeGuidance, GuidedDenoiser
from ladic.losses import loss_weight
from ladic.targets import Target
from ladic.testing import check_rebuilds
from ladic.time_sampling import LogitNormalTimes, LossAwareTimes, UniformTimes


@given(prediction=st.sampled_from(["x0", "v", "epsilon"]), t=st.floats(0.05, 0.9), seed=st.integers(0, 99))
def test_the_target_gives_the_clean_latent_back(prediction, t: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x0, noise = torch.randn(2, 2, 3, 4, generator=generator, dtype=torch.float64)
    time = torch.full((2,), t, dtype=torch.float64)
    for schedule in (CosineSchedule(), LinearSchedule()):
        target = Target(prediction, schedule)
        x_t = schedule.add_noise(x0, time, noise)
        torch.testing.assert_close(target.to_x0(target.of(x0, noise, time), x_t, time), x0)


def test_v_is_salimans_and_hos() -> None:
    x0, noise, t = torch.randn(1, 3, 4), torch.randn(1, 3, 4), torch.tensor([0.3])
    a = float(CosineSchedule().alpha_bar(t))
    expected = np.sqrt(a) * noise.numpy() - np.sqrt(1 - a) * x0.numpy()
    np.testing.assert_allclose(Target("v", CosineSchedule()).of(x0, noise, t).numpy(), expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_conversion_happens_inside_guidance() -> None:
    """Guiding answers and converting is the same as converting both and guiding: the closure returns clean latents."""
    network = CrossAttentionDenoiser(width=8, length=4, cond_width=6, hidden_width=16, num_layers=1, num_heads=2).eval()
    context, null = network.context(torch.randn(3, 5, 6)), network.context(torch.randn(1, 5, 6))
    x_t, previous, t = torch.randn(3, 4, 8), torch.randn(3, 4, 8), torch.full((3,), 0.4)
    for prediction in ("x0", "v", "epsilon"):
        target = Target(prediction, CosineSchedule())  # type: ignore[arg-type]
        guided = GuidedDenoiser(network, context, null, ClassifierFreeGuidance(3.0), target=target)(x_t, t, previous)
        with_image = target.to_x0(network(x_t, t, context, previous), x_t, t)
        without = target.to_x0(network(x_t, t, null.expand(3), previous), x_t, t)
        torch.testing.assert_close(guided, 3 * with_image - 2 * without, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("snr", [0.01, 1.0, 4.9, 5.1, 300.0])
def test_weights_are_the_papers(snr: float) -> None:
    log_snr = torch.tensor([np.log(snr)])
    assert float(loss_weight("none", log_snr)) == 1
    assert float(loss_weight("min_snr", log_snr)) == pytest.approx(min(snr, 5), rel=1e-5)
    assert float(loss_weight("min_snr", log_snr, "epsilon")) == pytest.approx(min(5 / snr, 1), rel=1e-5)
    assert float(loss_weight("min_snr", log_snr, "v")) == pytest.approx(min(snr, 5) / (snr + 1), rel=1e-5)
    assert float(loss_weight("truncated_snr", log_snr)) == pytest.approx(max(snr, 1), rel=1e-5)
    assert float(loss_weight("snr", log_snr)) == pytest.approx(snr, rel=1e-5)
    assert float(loss_weight("snr", log_snr, "epsilon")) == pytest.approx(1, rel=1e-5)


def test_weighted_errors_are_the_same_in_every_space() -> None:
    x0, noise, off = torch.randn(3, 2, 3, 4, dtype=torch.float64)
    t, schedule = torch.full((2,), 0.35, dtype=torch.float64), CosineSchedule()
    x_t, log_snr = schedule.add_noise(x0, t, noise), schedule.log_snr(t)
    errors = []
    for prediction in ("x0", "v", "epsilon"):
        target = Target(prediction, schedule)  # type: ignore[arg-type]
        answer = target.of(x0, noise, t)
        # An answer that is off by as much as makes the same clean latent wrong.
        wrong = {"x0": off, "v": -off / schedule.sigma(t).view(-1, 1, 1)}.get(prediction)
        if wrong is None:
            wrong = -off * (schedule.alpha_bar(t).sqrt() / schedule.sigma(t)).view(-1, 1, 1)
        torch.testing.assert_close(target.to_x0(answer + wrong, x_t, t), x0 + off)
        errors.append(loss_weight("min_snr", log_snr, prediction) * wrong.square().mean((1, 2)))
    torch.testing.assert_close(errors[0], errors[1])
    torch.testing.assert_close(errors[0], errors[2])


def test_uniform_times_are_the_draws() -> None:
    u = torch.rand(9)
    t, weight = UniformTimes().times(u)
    assert torch.equal(t, u)
    assert weight is None


def test_logit_normal_quantiles() -> None:
    u = torch.tensor([0.158655, 0.5, 0.841345], dtype=torch.float64)  # the normal's -1, 0, 1
    t, _ = LogitNormalTimes(mean=0.5, std=2.0).times(u)
    np.testing.assert_allclose(t.numpy(), 1 / (1 + np.exp(-np.array([-1.5, 0.5, 2.5]))), rtol=1e-4)


def loss_at(t: torch.Tensor) -> torch.Tensor:
    return 0.2 + 3 * t**2


def trained_times() -> LossAwareTimes:
    sampling = LossAwareTimes(bins=20, history=5)
    u = torch.rand(3000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sampling.observe(u, loss_at(u))
    return sampling


def test_times_are_uniform_until_every_bin_has_its_losses() -> None:
    sampling = LossAwareTimes(bins=4, history=2)
    for _ in range(2):
        torch.testing.assert_close(sampling.probabilities(), torch.full((4,), 0.25, dtype=torch.float64))
        sampling.observe(torch.tensor([0.1, 0.3, 0.6, 0.9]), torch.tensor([1.0, 1.0, 1.0, 3.0]))
    expected = 0.99 * np.array([1, 1, 1, 3]) / 6 + 0.01 / 4
    np.testing.assert_allclose(sampling.probabilities().numpy(), expected, rtol=1e-6)


def test_importance_sampling_keeps_the_mean_and_lowers_the_variance() -> None:
    sampling = trained_times()
    u = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000  # every quantile once
    t, weight = sampling.times(u)
    assert bool((t.diff() >= 0).all())
    weighted, plain = loss_at(t) * weight, loss_at(u)
    assert float(weighted.mean()) == pytest.approx(1.2, rel=1e-3)  # the integral of 0.2 + 3 t^2
    assert float(weighted.var()) < 0.1 * float(plain.var())


def test_a_loss_that_is_no_number_teaches_nothing() -> None:
    sampling = trained_times()
    before = {name: value.clone() for name, value in sampling.state_dict().items()}
    nan, inf = float("nan"), float("inf")
    sampling.observe(torch.tensor([0.5, 0.5, nan]), torch.tensor([nan, inf, 1.0]))
    assert all(torch.equal(value, before[name]) for name, value in sampling.state_dict().items())
    sampling.observe(torch.tensor([0.5, 0.5]), torch.tensor([nan, 1.0]))  # the rest of its batch still does
    assert sampling.seen.sum() == before["seen"].sum() + 1
    assert sampling.times(torch.rand(9))[0].isfinite().all()


def test_what_was_learned_is_in_the_state_dict() -> None:
    sampling = trained_times()
    again = LossAwareTimes(bins=20, history=5)
    again.load_state_dict(sampling.state_dict())
    torch.testing.assert_close(again.probabilities(), sampling.probabilities())
    for each in (sampling, UniformTimes(), LogitNormalTimes(0.1)):
        check_rebuilds(each)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Target("x_0", CosineSchedule()), "prediction='x_0': accepted are x0, v, epsilon"),  # type: ignore[arg-type]
        (lambda: LossAwareTimes(bins=1), "bins=1, history=10: need at least 2 bins"),
        (lambda: LossAwareTimes(uniform=0), "uniform=0: need a share above 0"),
        (lambda: LogitNormalTimes(std=0), "std=0: need a positive spread"),
    ],
)
def test_mistakes_are_named(make, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()
