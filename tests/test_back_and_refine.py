"""Back&Refine against the released code's branch written out, and its rules one by one."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ladic.components import BackAndRefine, DDIMSampler, LinearSchedule, RenoiseSampler, Sampler
from ladic.errors import UsageError
from ladic.types import SamplingStep

L, D = 24, 3
TABLE = np.cumprod(1 - np.concatenate([[0.0], np.linspace(1e-4, 0.02, 1000)])[:-1])


def network(x_t: np.ndarray, t: float, x0_prev: np.ndarray) -> np.ndarray:
    """Any function of its arguments, in which positions mix."""
    return np.tanh(x_t + 0.5 * x0_prev + np.roll(x_t, 1, axis=1) * t)


def confidence(x0: Tensor) -> Tensor:
    return x0.abs().mean(-1)


class Run:
    """One sampling of two rows with numbered draws, and what the network was asked."""

    def __init__(self, sampler: Sampler) -> None:
        generator = np.random.default_rng(3)
        self.noise = generator.normal(size=(2, L, D))
        self.drawn: list[np.ndarray] = []
        self.times: list[float] = []
        self.inputs: list[Tensor] = []
        self.fed: list[Tensor | None] = []
        self.steps: list[SamplingStep] = []

        def draw() -> Tensor:
            self.drawn.append(generator.normal(size=(2, L, D)))
            return torch.from_numpy(self.drawn[-1])

        def denoise(x_t: Tensor, t: Tensor, x0_prev: Tensor | None) -> Tensor:
            self.times.append(float(t[0]))
            self.inputs.append(x_t)
            self.fed.append(x0_prev)
            earlier = np.zeros((2, L, D)) if x0_prev is None else x0_prev.numpy()
            return torch.from_numpy(network(x_t.numpy(), float(t[0]), earlier))

        start = torch.from_numpy(self.noise)
        self.x0 = sampler.sample(denoise, start, LinearSchedule(1000), draw, self.steps.append, confidence)

    @property
    def turns(self) -> list[SamplingStep]:
        return [step for step in self.steps if step.kept is not None]


def released(noise: np.ndarray, draws: list[np.ndarray], stride: int) -> tuple[np.ndarray, list[int]]:
    """The released loop with its branch switched on (shared/reference/released_code.md, E1 to E4)."""
    draws = list(draws)
    x_t, x_pred, t, flag, asked = noise, np.zeros_like(noise), 999, True, []

    def noised(x0: np.ndarray, at: int) -> np.ndarray:
        return np.sqrt(TABLE[at]) * x0 + np.sqrt(1 - TABLE[at]) * draws.pop(0)

    while t > 0:
        asked.append(t)
        x_pred = network(x_t, t / 999, x_pred)
        if 300 < t < 600 and flag:
            order = np.argsort(np.abs(x_pred).mean(-1), axis=1, kind="stable")[:, : L // 3]
            x_t = noised(x_pred, t - stride)
            fresh = draws.pop(0)
            for row in range(len(x_t)):
                x_t[row, order[row]] = fresh[row, order[row]]
            t, flag = 999, False
        elif t > stride:
            x_t = noised(x_pred, t - stride)
        t -= stride
    return x_pred, asked


@pytest.mark.parametrize("stride", [30, 34, 100])
def test_the_released_branch_number_by_number(stride: int) -> None:
    run = Run(BackAndRefine(RenoiseSampler(stride=stride), at=0.6, drop=1 / 3, skip=1))
    expected, asked = released(run.noise, run.drawn, stride)
    assert [round(t * 999) for t in run.times] == asked
    if stride == 30:
        assert (len(asked), asked[14], asked[15]) == (48, 579, 969)
    np.testing.assert_allclose(run.x0.numpy(), expected, atol=1e-6)


def test_a_stride_counts_entries_of_the_table() -> None:
    for stride, steps in {30: 34, 34: 30, 200: 5, 999: 1}.items():
        run = Run(RenoiseSampler(stride=stride))
        assert [round(t * 999) for t in run.times] == list(range(999, 0, -stride))
        assert len(run.times) == steps == RenoiseSampler(stride=stride).num_steps


def test_as_in_the_paper_half_is_kept_at_half_time_and_the_walk_starts_again_at_the_top() -> None:
    run = Run(BackAndRefine(DDIMSampler(10)))
    np.testing.assert_allclose(run.times, [1, 0.9, 0.8, 0.7, 0.6, 0.5, *np.linspace(1, 0.1, 10)], atol=1e-6)
    (turn,) = run.turns
    assert (turn.index, turn.t) == (5, 0.5)
    assert turn.kept is not None
    assert turn.kept.sum(1).tolist() == [12, 12]
    sure = confidence(turn.x0)
    assert bool((sure[turn.kept].view(2, -1).min(1).values >= sure[~turn.kept].view(2, -1).max(1).values).all())
    # What is kept is where plain DDIM would have it next; the rest is the noise that was drawn.
    plain = Run(DDIMSampler(10))
    torch.testing.assert_close(run.inputs[6][turn.kept], plain.inputs[6][turn.kept])
    torch.testing.assert_close(run.inputs[6][~turn.kept], torch.from_numpy(run.drawn[0])[~turn.kept])
    assert len(run.drawn) == 1
    assert run.fed[6] is run.steps[5].x0, "the estimate is fed back as it is"
    assert run.x0 is run.steps[-1].x0


def test_a_threshold_decides_instead_of_a_share() -> None:
    run = Run(BackAndRefine(DDIMSampler(4), threshold=0.6))
    (turn,) = run.turns
    assert turn.kept is not None
    torch.testing.assert_close(turn.kept, confidence(turn.x0) >= 0.6)
    assert 0 < int(turn.kept.sum()) < 2 * L


def test_several_times_and_forgetting() -> None:
    run = Run(BackAndRefine(DDIMSampler(4), at=0.25, drop=0.25, repeats=2, forget=True))
    assert len(run.times) == 4 + 4 + 4
    assert [turn.index for turn in run.turns] == [3, 7]
    for turn in run.turns:
        fed = run.fed[turn.index + 1]
        assert fed is not None
        assert turn.kept is not None
        assert bool((fed[~turn.kept] == 0).all())
        torch.testing.assert_close(fed[turn.kept], turn.x0[turn.kept])


@pytest.mark.parametrize("steps", [1, 2])
def test_few_steps_go_back_after_the_last_that_there_is(steps: int) -> None:
    run = Run(BackAndRefine(DDIMSampler(steps), at=0.0))
    assert len(run.times) == 2 * steps


def test_dropping_nothing_renews_nothing() -> None:
    run = Run(BackAndRefine(DDIMSampler(6), drop=0.0))
    (turn,) = run.turns
    assert turn.kept is not None
    assert bool(turn.kept.all())


def test_other_step_numbers_reach_the_inner_sampler() -> None:
    sampler = BackAndRefine(RenoiseSampler(stride=30), drop=0.25).with_steps(6)
    assert isinstance(sampler.sampler, RenoiseSampler)
    assert (sampler.sampler.num_steps, sampler.sampler.stride, sampler.drop) == (6, None, 0.25)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: BackAndRefine(drop=1.5), r"BackAndRefine\.drop=1\.5: accepted are numbers from 0 to 1"),
        (lambda: BackAndRefine(threshold=-1), r"BackAndRefine\.threshold=-1"),
        (lambda: BackAndRefine(repeats=0), "repeats=0: need at least 1; without it, use the sampler alone"),
        (lambda: BackAndRefine(BackAndRefine()), "give repeats=2 to go back twice"),
        (lambda: BackAndRefine(DDIMSampler(3), skip=3), "skip=3: accepted are 0 to 2, its sampler has 3 steps"),
        (lambda: RenoiseSampler(stride=0), "stride=0: accepted are 1 to 999"),
        (lambda: Run(DDIMSampler(1001)), "num_steps=1001: the noise schedule is a table of 1000 entries"),
    ],
)
def test_impossible_settings_are_refused_by_name(make, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()
