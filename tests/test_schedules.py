"""Noise schedules against closed forms in NumPy float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ladic.components import (
    CosineSchedule,
    DilatedSchedule,
    LinearSchedule,
    NoiseSchedule,
    ShiftedSchedule,
    SigmoidSchedule,
    SqrtSchedule,
    TanSchedule,
)
from ladic.errors import UsageError

TIMES = np.linspace(0, 1, 41)
SCHEDULES: list[NoiseSchedule] = [
    CosineSchedule(),
    CosineSchedule(s=0.02, floor=0.0),
    LinearSchedule(),
    LinearSchedule(num_steps=1000),
    ShiftedSchedule(LinearSchedule(), factor=4.0),
    SqrtSchedule(),
    TanSchedule(),
    TanSchedule(d=2.0, floor=0.0),
    SigmoidSchedule(),
    SigmoidSchedule(start=0.0, end=3.0, tau=0.7),
    ShiftedSchedule(),
]


def alpha_bar(schedule: NoiseSchedule, t: np.ndarray) -> np.ndarray:
    return schedule.alpha_bar(torch.from_numpy(t)).double().numpy()


@pytest.mark.parametrize(("s", "floor"), [(0.008, 1e-5), (0.0, 0.0), (0.05, 1e-3)])
def test_cosine_is_nichol_and_dhariwals(s: float, floor: float) -> None:
    def f(t: np.ndarray | float) -> np.ndarray:
        return np.cos(np.pi / 2 * (np.asarray(t) + s) / (1 + s)) ** 2

    expected = np.maximum(f(TIMES) / f(0.0), floor)
    np.testing.assert_allclose(alpha_bar(CosineSchedule(s, floor), TIMES), expected, atol=2e-7)


def test_continuous_linear_is_the_integral_of_beta() -> None:
    low, high = 0.1, 20.0  # 1000 times Table 7's
    grid = np.linspace(0, 1, 200_001)
    beta = low + (high - low) * grid
    integral = np.concatenate([[0], np.cumsum((beta[1:] + beta[:-1]) / 2) * (grid[1] - grid[0])])
    expected = np.exp(-np.interp(TIMES, grid, integral))
    np.testing.assert_allclose(alpha_bar(LinearSchedule(), TIMES), expected, rtol=1e-8)


def test_linear_with_1000_steps_is_the_released_table() -> None:
    betas = np.concatenate([[0.0], np.linspace(1e-4, 0.02, 1000)])[:-1]
    table = np.cumprod(1 - betas)
    ours = alpha_bar(LinearSchedule(num_steps=1000), np.arange(1000) / 999)
    np.testing.assert_allclose(ours, table, rtol=1e-6)
    assert ours[0] == 1
    assert ours[500] == pytest.approx(7.8587e-2, rel=1e-4)
    assert ours[999] == pytest.approx(4.1182e-5, rel=1e-4)


def test_the_chain_approaches_the_continuous_schedule() -> None:
    table, limit = alpha_bar(LinearSchedule(num_steps=1000), TIMES), alpha_bar(LinearSchedule(), TIMES)
    assert 0 < np.abs(table - limit).max() < 2e-3


@given(factor=st.floats(0.1, 10), t=st.floats(0.01, 0.99))
def test_the_shift_is_minus_two_log_factor(factor: float, t: float) -> None:
    time = torch.tensor([t], dtype=torch.float64)
    for inner in (CosineSchedule(), LinearSchedule()):
        shifted = ShiftedSchedule(inner, factor)
        a, moved = (float(schedule.alpha_bar(time)) for schedule in (inner, shifted))
        shift = np.log(moved / (1 - moved)) - np.log(a / (1 - a))
        assert shift == pytest.approx(-2 * np.log(factor), abs=1e-5)
        assert float(shifted.log_snr(time)) == pytest.approx(np.log(moved / (1 - moved)), abs=1e-4)


def test_the_shift_is_the_noise_factor_after_rescaling_to_unit_variance() -> None:
    factor, a = 4.0, alpha_bar(CosineSchedule(), TIMES)
    signal, noise = np.sqrt(a), factor * np.sqrt(1 - a)  # the released code's diffuse_t
    expected = (signal / np.sqrt(signal**2 + noise**2)) ** 2
    np.testing.assert_allclose(alpha_bar(ShiftedSchedule(CosineSchedule(), factor), TIMES), expected, atol=1e-7)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
def test_add_noise_follows_the_formula_row_by_row_and_keeps_unit_variance(schedule: NoiseSchedule) -> None:
    generator = np.random.default_rng(0)
    x0, noise, t = generator.normal(size=(3, 5, 4)), generator.normal(size=(3, 5, 4)), np.array([0.1, 0.5, 0.95])
    a = alpha_bar(schedule, t)
    x_t = schedule.add_noise(*(torch.from_numpy(value) for value in (x0, t, noise))).numpy()
    for row in range(3):
        np.testing.assert_allclose(x_t[row], np.sqrt(a[row]) * x0[row] + np.sqrt(1 - a[row]) * noise[row], atol=1e-6)
    # Unit input variance stays one: the squares of the two coefficients, read off separately, add up to it.
    ones, zeros = torch.ones(3, 1, 1).double(), torch.zeros(3, 1, 1).double()
    signal = schedule.add_noise(ones, torch.from_numpy(t), zeros)
    spread = schedule.add_noise(zeros, torch.from_numpy(t), ones)
    torch.testing.assert_close(signal**2 + spread**2, ones, atol=1e-6, rtol=0)


def test_a_dilated_schedule_stretches_the_noise_of_training_and_of_sampling_apart() -> None:
    inner, t = CosineSchedule(), torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    schedule = DilatedSchedule(inner, training=4.0, sampling=2.0)
    zeros, ones = torch.zeros(3, 1, 1).double(), torch.ones(3, 1, 1).double()
    sigma = inner.sigma(t).view(3, 1, 1)
    torch.testing.assert_close(schedule.add_training_noise(zeros, t, ones), 4 * sigma)
    torch.testing.assert_close(schedule.add_noise(zeros, t, ones), 2 * sigma)
    torch.testing.assert_close(schedule.add_training_noise(ones, t, zeros), schedule.add_noise(ones, t, zeros))
    torch.testing.assert_close(schedule.log_snr(t), torch.log(inner.alpha_bar(t) / schedule.sigma(t) ** 2))
    noise = schedule.add_training_noise(zeros, t, ones).flatten()
    torch.testing.assert_close(schedule.training_log_snr(t), torch.log(inner.alpha_bar(t) / noise**2))
    torch.testing.assert_close(inner.training_log_snr(t), inner.log_snr(t))
    assert schedule.entries is None
    assert DilatedSchedule(LinearSchedule(1000)).entries == 1000


def test_a_cosine_table_is_the_curve_at_its_entries() -> None:
    table = alpha_bar(CosineSchedule(floor=0, num_steps=1000), np.arange(1000) / 999)
    curve = alpha_bar(CosineSchedule(floor=0), np.arange(1000) / 1000)
    np.testing.assert_allclose(table, curve, atol=1e-7)
    assert 0 < table[-1] < 1e-5, "the last entry keeps a trace of signal"


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_signal_never_rises_with_time(times: list[float]) -> None:
    t = torch.tensor(sorted(times))
    for schedule in SCHEDULES:
        values = schedule.alpha_bar(t)
        assert (values.diff() <= 1e-7).all()
        torch.testing.assert_close(schedule.sigma(t) ** 2 + values, torch.ones_like(values), atol=1e-6, rtol=0)


@pytest.mark.parametrize("entries", [10, 25, 100, 4000])
def test_a_coarse_table_ends_in_noise_too(entries: int) -> None:
    ends = LinearSchedule(num_steps=entries).alpha_bar(torch.tensor([0.0, 1.0]))
    assert ends[0] == 1
    assert 0 < ends[1] < 2e-3, "near nothing of the signal is left"


def test_times_outside_the_unit_interval_stay_in_the_table() -> None:
    assert LinearSchedule(num_steps=10).alpha_bar(torch.tensor([-0.1, 1.1])).isfinite().all()


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
def test_half_precision_times_are_answered_in_float32(schedule: NoiseSchedule) -> None:
    t = torch.tensor([0.25, 0.5], dtype=torch.bfloat16)  # exact in bfloat16
    assert schedule.alpha_bar(t).dtype == torch.float32
    torch.testing.assert_close(schedule.alpha_bar(t), schedule.alpha_bar(t.float()))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CosineSchedule(s=-1), "s=-1"),
        (lambda: CosineSchedule(floor=1.0), "floor=1.0"),
        (lambda: LinearSchedule(num_steps=1), "num_steps=1: a table needs at least 2 entries"),
        (lambda: LinearSchedule(beta_min=0.5, beta_max=0.1), "beta_min=0.5, beta_max=0.1"),
        (lambda: CosineSchedule(num_steps=1), "num_steps=1: a table needs at least 2 entries"),
        (lambda: DilatedSchedule(training=0), "training=0, sampling=1.0: noise factors must be positive"),
        (lambda: SqrtSchedule(s=1.0), "s=1.0, floor=1e-05: need 0 <= s < 1"),
        (lambda: TanSchedule(d=0), "d=0, floor=1e-05: need d > 0"),
        (lambda: SigmoidSchedule(start=3, end=-3), "start=3, end=-3, tau=1.0"),
        (lambda: ShiftedSchedule(factor=0), "factor=0: the noise factor must be positive"),
    ],
)
def test_impossible_settings_are_refused_by_name(make, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()


def test_closed_forms_in_numpy() -> None:
    t = TIMES
    np.testing.assert_allclose(alpha_bar(SqrtSchedule(), t[:-1]), 1 - np.sqrt(t[:-1] + 1e-4), atol=1e-9)
    tangent = np.tan(np.pi / 2 * t[:-1])
    np.testing.assert_allclose(alpha_bar(TanSchedule(d=9, floor=0), t[:-1]), 1 / (1 + 81 * tangent**2), atol=1e-9)
    logistic = 1 / (1 + np.exp(-np.array([-3, 3, *(-3 + 6 * t)])))
    low, high, values = logistic[0], logistic[1], logistic[2:]
    np.testing.assert_allclose(alpha_bar(SigmoidSchedule(floor=0), t), (high - values) / (high - low), atol=1e-9)


def test_tan_d_is_a_shifted_cosine() -> None:
    shifted = ShiftedSchedule(CosineSchedule(s=0.0, floor=0.0), factor=5.0)
    np.testing.assert_allclose(alpha_bar(TanSchedule(d=5, floor=0), TIMES), alpha_bar(shifted, TIMES), atol=1e-7)


def test_plot_schedules(cli, tmp_path) -> None:
    for number, words in enumerate(([], ["TanSchedule:d=3", "ShiftedSchedule:schedule=LinearSchedule,factor=4"])):
        file = tmp_path / f"{number}.png"
        done = cli("plot", "schedules", *words, "-o", file)
        assert (done.code, done.stdout) == (0, f"wrote {file}\n"), done.stderr
        assert file.read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "0.png").read_bytes() != (tmp_path / "1.png").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["TanSchedul"], "no noise schedule called 'TanSchedul'; did you mean TanSchedule?"),
        (["TanSchedule:d"], "'TanSchedule:d': 'd' has no value; write TanSchedule:argument=value"),
        (["TanSchedule:e=3"], "got an unexpected keyword argument 'e'"),
        (["TanSchedule:d=-1"], "'TanSchedule:d=-1': d=-1"),
        (["-o", "x.gif"], "--output x.gif: the name must end in .png"),
        (["-o", "nowhere/x.png"], "no folder"),
    ],
)
def test_plot_mistakes_are_one_line(cli, words, message, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("plot", "schedules", *words)
    assert done.code == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
