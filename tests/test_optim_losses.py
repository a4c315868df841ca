"""The learning rate over a run, which parameters decay, and the losses against NumPy."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ladic.components.latent_spaces.head import WordHead
from ladic.errors import UsageError
from ladic.losses import latent_loss, phrase_presence_loss
from ladic.muon import MuonAdamW, orthogonalize
from ladic.optim import WarmupDecay, parameter_groups
from ladic.rerank import MinimumBayesRiskSelector
from ladic.testing import tiny_text_space


@pytest.mark.parametrize("shape", ["linear", "cosine", "constant"])
def test_the_rate_warms_up_to_the_peak_and_falls_to_the_floor(shape) -> None:
    schedule, total = WarmupDecay(0.1, shape, floor=0.2), 200
    factors = [schedule.factor(step, total) for step in range(total + 1)]
    np.testing.assert_allclose(factors[:20], np.arange(1, 21) / 21)  # the first step is not wasted on a rate of 0
    assert factors[20] == 1
    assert factors[total] == pytest.approx(1.0 if shape == "constant" else 0.2)
    assert np.all(np.diff(factors[20:]) <= 0)
    half = {"linear": 0.6, "cosine": 0.2 + 0.8 * (1 + np.cos(np.pi / 2)) / 2, "constant": 1.0}[shape]
    assert factors[110] == pytest.approx(half)


def test_from_zero_is_the_linear_schedule_of_transformers() -> None:
    from transformers import get_linear_schedule_with_warmup

    def rates(make) -> list[float]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=5e-5)
        schedule = make(optimizer)
        found = []
        for _ in range(40):
            found.append(float(schedule.get_last_lr()[0]))
            optimizer.step()
            schedule.step()
        return found

    theirs = rates(lambda optimizer: get_linear_schedule_with_warmup(optimizer, 4, 40))
    np.testing.assert_allclose(rates(lambda optimizer: WarmupDecay(0.1, from_zero=True)(optimizer, 40)), theirs)
    assert theirs[0] == 0


def test_decay_spares_vectors_or_nothing() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    optimizer = torch.optim.AdamW(parameter_groups(module), weight_decay=0.3)
    assert [(len(group["params"]), group["weight_decay"]) for group in optimizer.param_groups] == [(1, 0.3), (3, 0.0)]
    optimizer = torch.optim.AdamW(parameter_groups(module, "all"), weight_decay=0.3)
    assert [(len(group["params"]), group["weight_decay"]) for group in optimizer.param_groups] == [(1, 0.3), (3, 0.3)]


def test_the_papers_defaults_end_at_zero() -> None:
    assert WarmupDecay().factor(1000, 1000) == 0
    assert WarmupDecay().factor(100, 1000) == 1
    assert WarmupDecay().factor(5000, 1000) == 0, "a longer run than foreseen stays at the end"


@given(
    warmup=st.floats(0, 0.99),
    floor=st.floats(0, 1),
    total=st.integers(1, 5000),
    share=st.floats(0, 1),
    shape=st.sampled_from(["linear", "cosine", "constant"]),
)
def test_the_factor_is_always_a_share(warmup: float, floor: float, total: int, share: float, shape) -> None:
    assert 0 <= WarmupDecay(warmup, shape, floor).factor(int(share * total), total) <= 1 + 1e-12


def test_an_optimiser_follows_the_schedule() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    schedule = WarmupDecay(0.2)(optimizer, 10)
    rates: list[float] = []
    for _ in range(10):
        rates.append(float(schedule.get_last_lr()[0]))
        optimizer.step()
        schedule.step()
    np.testing.assert_allclose(rates, 0.5 * np.array([1 / 3, 2 / 3, *(1 - np.arange(8) / 8)]))


@pytest.mark.parametrize("settings", [{"warmup": 1.0}, {"warmup": -0.1}, {"floor": 2.0}])
def test_impossible_schedules_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="need 0 <= warmup < 1, 0 <= floor <= 1"):
        WarmupDecay(**settings)  # type: ignore[arg-type]


def test_matrices_decay_vectors_do_not_and_frozen_parameters_are_left_out() -> None:
    first, norm, table, last = nn.Linear(3, 4), nn.LayerNorm(4), nn.Embedding(5, 4), nn.Linear(4, 2)
    module = nn.Sequential(first, norm, table, last)
    last.requires_grad_(False)
    hidden, others, vectors = parameter_groups(module)
    assert [tuple(p.shape) for p in hidden["params"]] == [(4, 3)]
    assert hidden["hidden"]
    assert [tuple(p.shape) for p in others["params"]] == [(5, 4)]
    assert "weight_decay" not in hidden | others, "the optimiser's own"
    assert vectors["weight_decay"] == 0
    assert [tuple(p.shape) for p in vectors["params"]] == [(4,), (4,), (4,)]
    before = norm.weight.detach().clone()
    optimizer = torch.optim.AdamW([hidden, others, vectors], lr=0.1, weight_decay=0.5)
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    weights = first.weight.detach().clone()
    optimizer.step()
    assert torch.equal(norm.weight, before)
    torch.testing.assert_close(first.weight.detach(), weights * (1 - 0.1 * 0.5))


def test_a_layer_that_scores_words_is_not_hidden() -> None:
    space = tiny_text_space()
    groups = parameter_groups(space)
    assert all(not group.get("hidden") for group in groups)
    assert sum(len(group["params"]) for group in groups) == len(list(space.head.parameters()))


def test_muon_orthogonalises_what_adamw_would_scale() -> None:
    """Against the singular value decomposition: same singular vectors, all values near one."""
    for shape in ((2, 6, 4), (1, 3, 8)):
        matrices = torch.randn(shape)
        u, _, v = torch.linalg.svd(matrices, full_matrices=False)
        difference = orthogonalize(matrices, steps=8) - u @ v
        assert difference.norm(dim=(-2, -1)).max() < 0.35 * min(shape[1:]) ** 0.5, "bf16, and the quintic's 0.7 to 1.2"
    step = nn.Linear(4, 4, bias=False)
    before = step.weight.detach().clone()
    optimizer = MuonAdamW(parameter_groups(step), lr=0.1, weight_decay=0.0)
    step(torch.randn(8, 4)).square().mean().backward()
    optimizer.step()
    sizes = torch.linalg.svdvals(before - step.weight.detach()) / (0.1 * 0.2 * 4**0.5)
    assert ((sizes > 0.5) & (sizes < 1.3)).all(), sizes


def test_outside_the_hidden_matrices_muon_is_adamw() -> None:
    mine, theirs = nn.Linear(5, 5), nn.Linear(5, 5)
    theirs.load_state_dict(mine.state_dict())
    optimizers = (
        (mine, MuonAdamW(mine.parameters(), lr=0.01, weight_decay=0.1)),
        (theirs, torch.optim.AdamW(theirs.parameters(), lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)),
    )
    for _ in range(5):
        x = torch.randn(4, 5)
        for layer, optimizer in optimizers:
            optimizer.zero_grad()
            layer(x).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(mine.weight, theirs.weight)
    with pytest.raises(UsageError, match=r"momentum=1.0"):
        MuonAdamW(mine.parameters(), momentum=1.0)


def test_latent_losses_are_the_formulas() -> None:
    generator = np.random.default_rng(0)
    predicted, x0 = generator.normal(size=(2, 3, 5, 4))
    tensors = torch.from_numpy(predicted), torch.from_numpy(x0)
    norms = np.sqrt(((predicted - x0) ** 2).sum(-1)).mean(-1)
    np.testing.assert_allclose(latent_loss(*tensors, "l2").numpy(), norms, rtol=1e-6)
    np.testing.assert_allclose(latent_loss(*tensors, "mse").numpy(), ((predicted - x0) ** 2).mean((1, 2)), rtol=1e-6)


def test_a_perfect_estimate_has_a_finite_gradient() -> None:
    predicted = torch.ones(1, 2, 3, requires_grad=True)
    latent_loss(predicted, torch.ones(1, 2, 3)).sum().backward()
    assert predicted.grad is not None
    assert predicted.grad.isfinite().all()


class AsTheyAre(WordHead):
    """Takes features for logits."""

    def forward(self, features: Tensor) -> Tensor:
        return features


def test_the_loss_on_words_is_their_cross_entropy() -> None:
    generator = np.random.default_rng(1)
    logits, targets = generator.normal(size=(2, 4, 7)), generator.integers(0, 7, size=(2, 4))
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    losses, words = AsTheyAre(torch.arange(7)).losses(torch.from_numpy(logits), torch.from_numpy(targets))
    expected = [[-log_p[b, i, targets[b, i]] for i in range(4)] for b in range(2)]
    np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-5)
    np.testing.assert_array_equal(words.numpy(), logits.argmax(-1))


def test_losses_of_half_precision_are_taken_in_float32() -> None:
    logits, latents = torch.randn(1, 2, 3).bfloat16(), torch.randn(1, 2, 3).bfloat16()
    on_words, _ = AsTheyAre(torch.arange(3)).losses(logits, torch.zeros(1, 2, dtype=torch.long))
    assert on_words.dtype == torch.float32
    assert latent_loss(latents, latents).dtype == torch.float32


def test_phrase_presence_is_the_log_sum_exp_over_tokens() -> None:
    generator = np.random.default_rng(2)
    logits, present = generator.normal(size=(2, 5, 3)), generator.integers(0, 2, size=(2, 3)).astype(float)
    p = 1 / (1 + np.exp(-np.log(np.exp(logits).sum(1))))
    expected = -(present * np.log(p) + (1 - present) * np.log(1 - p)).sum(-1)
    ours = phrase_presence_loss(torch.from_numpy(logits), torch.from_numpy(present).float())
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-5)


def test_minimum_bayes_risk_picks_by_its_utility() -> None:
    import math

    candidates = ["a b c", "a b d", "x y", "a b c d"]

    def bleu(mine: str, theirs: str) -> float:  # sentence BLEU-2, add one above unigrams
        m, t = mine.split(), theirs.split()
        unigrams = sum(min(m.count(word), t.count(word)) for word in set(m)) / len(m)
        mine_pairs, their_pairs = list(pairwise(m)), list(pairwise(t))
        both = sum(min(mine_pairs.count(pair), their_pairs.count(pair)) for pair in set(mine_pairs))
        if not unigrams:
            return 0.0
        brevity = min(1.0, math.exp(1 - len(t) / len(m)))
        return brevity * math.sqrt(unigrams * (both + 1) / (len(mine_pairs) + 1))

    utility = [sum(bleu(a, b) for j, b in enumerate(candidates) if j != i) for i, a in enumerate(candidates)]
    best = candidates[int(np.argmax(utility))]
    selector = MinimumBayesRiskSelector(max_order=2)
    assert selector.select([candidates]) == [best]
    assert best == "a b c"
    assert selector.select([["same", "same"], ["", ""], ["only"]]) == ["same", "", "only"]
