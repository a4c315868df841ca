"""Classifier-free guidance: the formula, its interval, and what it costs."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ladic.components import Context, CosineSchedule, CrossAttentionDenoiser, DDIMSampler, Denoiser, PrefixDenoiser
from ladic.errors import UsageError
from ladic.generation import Generation, generate
from ladic.guidance import ClassifierFreeGuidance, GuidedDenoiser
from ladic.testing import tiny_text_space


class Counting(CrossAttentionDenoiser):
    """Notes the rows of every pass and how often a context was made."""

    shares_context = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(width=32, length=12, cond_width=6, hidden_width=16, num_heads=2, num_layers=1, **kwargs)
        self.rows: list[int] = []
        self.contexts: list[int] = []
        self.earlier: list[Tensor | None] = []

    def context(self, image_tokens: Tensor) -> Context:
        self.contexts.append(len(image_tokens))
        return super().context(image_tokens)

    def forward(self, x_t: Tensor, t: Tensor, context: Context, x0_prev: Tensor | None = None) -> Tensor:
        assert len(x_t) == len(t)
        assert len(x_t) % len(context) == 0
        self.rows.append(len(x_t))
        self.earlier.append(x0_prev)
        return super().forward(x_t, t, context, x0_prev)


@pytest.fixture
def network() -> Counting:
    return Counting().eval()


def parts(network: Counting, rows: int = 3) -> tuple[Tensor, Tensor, Context, Context]:
    generator = torch.Generator().manual_seed(1)
    x_t, x0_prev = (torch.randn(rows, 12, 32, generator=generator) for _ in range(2))
    context = network.context(torch.randn(rows, 5, 6, generator=generator))
    return x_t, x0_prev, context, network.context(torch.randn(1, 5, 6, generator=generator))


def three_candidates(network: Denoiser, steps: int) -> Generation:
    """Of each of two images, guided in the second half."""
    return generate(
        torch.randn(2, 5, 6),
        network.context(torch.zeros(1, 5, 6)),
        ["a", "b"],
        denoiser=network,
        latent_space=tiny_text_space(),
        schedule=CosineSchedule(),
        sampler=DDIMSampler(steps),
        guidance=ClassifierFreeGuidance(2.0, start=0.5),
        num_candidates=3,
    )


@pytest.mark.parametrize("w", [-1.0, 0.5, 1.0, 3.0])
@torch.no_grad()
def test_guided_estimate_is_1_plus_w_with_minus_w_without(network: Counting, w: float) -> None:
    x_t, x0_prev, context, null = parts(network)
    guided = GuidedDenoiser(network, context, null, ClassifierFreeGuidance(scale=1 + w))
    for row in range(3):  # each pass and each row by itself
        one, t = slice(row, row + 1), torch.tensor([0.4])
        with_image = network(x_t[one], t, context.select(torch.tensor([row])), x0_prev[one])
        without = network(x_t[one], t, null, x0_prev[one])
        expected = (1 + w) * with_image - w * without
        estimate = guided(x_t, t.expand(3), x0_prev)[one]
        torch.testing.assert_close(estimate, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_scale_1_is_one_pass_of_the_plain_network(network: Counting) -> None:
    x_t, x0_prev, context, null = parts(network)
    guided = GuidedDenoiser(network, context, null, ClassifierFreeGuidance(scale=1.0))
    estimate = guided(x_t, torch.full((3,), 0.4), x0_prev)
    assert network.rows == [3], "no second half of the batch"
    assert guided.nfe == 1
    assert torch.equal(estimate, network(x_t, torch.full((3,), 0.4), context, x0_prev))


@torch.no_grad()
def test_a_guided_step_is_one_doubled_batch_and_two_evaluations(network: Counting) -> None:
    x_t, x0_prev, context, null = parts(network)
    guided = GuidedDenoiser(network, context, null, ClassifierFreeGuidance(scale=2.0))
    guided(x_t, torch.full((3,), 0.4), None)
    guided(x_t, torch.full((3,), 0.2), x0_prev)
    assert network.rows == [6, 6]
    assert guided.nfe == 4
    assert network.earlier[0] is not None
    assert not network.earlier[0].any(), "no estimate is one of zeros"
    assert network.earlier[1] is not None
    assert torch.equal(network.earlier[1], torch.cat([x0_prev, x0_prev])), "both branches see the guided estimate"


@given(t=st.floats(0, 1), ends=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_guidance_acts_exactly_within_its_interval(t: float, ends: tuple[float, float]) -> None:
    stop, start = sorted(ends)
    if min(abs(t - stop), abs(t - start)) < 1e-5:
        t = stop
    assert ClassifierFreeGuidance(2.0, start=start, stop=stop).active(t) == (stop <= t <= start)
    assert not ClassifierFreeGuidance(1.0, start=start, stop=stop).active(t)


@torch.no_grad()
def test_the_interval_saves_evaluations_and_its_ends_belong_to_it(network: Counting) -> None:
    from ladic.components import CosineSchedule

    x_t, _, context, null = parts(network)
    # Ten steps visit 1.0, 0.9 ... 0.1; float32 makes 0.6 and 0.3 a little more than they are and 0.7 a little less.
    for start, stop, inside in [(0.6, 0.3, 4), (0.7, 0.1, 7), (1.0, 1.0, 1), (0.55, 0.52, 0)]:
        guided = GuidedDenoiser(network, context, null, ClassifierFreeGuidance(2.0, start=start, stop=stop))
        network.rows.clear()
        DDIMSampler(10).sample(guided, x_t, CosineSchedule(), lambda: torch.zeros(3, 12, 32))
        assert guided.nfe == 10 + inside == sum(network.rows) / 3, (start, stop)


@torch.no_grad()
def test_without_self_conditioning_the_network_never_gets_an_estimate(network: Counting) -> None:
    x_t, x0_prev, context, null = parts(network)
    guided = GuidedDenoiser(network, context, null, ClassifierFreeGuidance(2.0), self_conditioning=False)
    guided(x_t, torch.full((3,), 0.4), x0_prev)
    assert network.earlier == [None]


@given(images=st.integers(1, 3), candidates=st.integers(1, 3), tokens=st.sampled_from([1, 2, 5]), qk_norm=st.booleans())
@torch.no_grad()
def test_shared_contexts_say_what_a_row_for_every_latent_says(
    images: int, candidates: int, tokens: int, qk_norm: bool
) -> None:
    """Of no image any number of tokens is read, and equal ones are as good as one of them."""
    network = Counting(qk_norm=qk_norm).eval()
    rows = images * candidates
    x_t, x0_prev, context, _ = parts(network, rows)
    context, t = context.select(torch.arange(images)), torch.full((rows,), 0.4)
    token, several = torch.randn(1, 1, 6), torch.randn(1, tokens, 6)
    for null, read in ((several, several), (token, token.expand(1, 5, 6))):
        shared = network.context_of_candidates(context, candidates)
        guided = GuidedDenoiser(network, shared, network.context(null), ClassifierFreeGuidance(2.0))(x_t, t, x0_prev)
        with_image = network(x_t, t, context.repeat(candidates), x0_prev)
        without = network(x_t, t, network.context(read).expand(rows), x0_prev)
        torch.testing.assert_close(guided, 2 * with_image - without, atol=1e-5, rtol=1e-4)


def test_who_has_a_forward_of_its_own_shares_only_if_it_says_so() -> None:
    """One that was written for a row of the context for every latent would read other images."""

    class Own(CrossAttentionDenoiser):
        def forward(self, *given: Any) -> Tensor:
            return super().forward(*given)

    class Named(Counting):
        pass

    assert CrossAttentionDenoiser.shares_context
    assert Named.shares_context
    assert not Own.shares_context


def test_every_weight_has_a_gradient_where_there_is_one_token(network: Counting) -> None:
    x_t, x0_prev, _, _ = parts(network)
    network(x_t, torch.full((3,), 0.4), network.context(torch.randn(3, 1, 6)), x0_prev).sum().backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


@torch.no_grad()
def test_denoisers_that_do_not_share_are_given_a_row_for_every_latent() -> None:
    class Apart(PrefixDenoiser):
        def forward(self, x_t: Tensor, t: Tensor, context: Context, x0_prev: Tensor | None = None) -> Tensor:
            seen.append((len(x_t), len(context), len(context.null)))
            return super().forward(x_t, t, context, x0_prev)

    seen: list[tuple[int, int, int]] = []
    network = Apart(width=32, length=12, cond_width=6, hidden_width=16, num_heads=2, num_layers=1).eval()
    three_candidates(network, 2)
    assert seen == [(6, 6, 0), (12, 12, 0)]


@torch.no_grad()
def test_contexts_are_made_once_for_all_steps_and_candidates(network: Counting) -> None:
    result = three_candidates(network, 4)
    assert network.contexts == [1, 2], "the null image once, the images once, whatever the steps and candidates"
    assert network.rows == [6, 6, 12, 12], "one pass for each of 6 candidates, doubled from t = 0.5 on"
    assert result.nfe == 6


@torch.no_grad()
def test_the_network_is_told_a_later_time_and_never_one_past_the_end(network: Counting) -> None:
    told: list[Tensor] = []
    network.register_forward_pre_hook(lambda module, args: told.append(args[1]))
    x_t, x0_prev, context, null = parts(network)
    ahead = ClassifierFreeGuidance(2.0, start=0.5, time_difference=5 / 999)
    guided = GuidedDenoiser(network, context, null, ahead)
    for step in (994, 997, 999, 499):
        guided(x_t, torch.full((3,), step / 999), x0_prev)
    steps = [times * 999 for times in told]
    torch.testing.assert_close(torch.stack([s[0] for s in steps]), torch.tensor([999.0, 999, 999, 504]))
    assert [len(times) for times in told] == [3, 3, 3, 6], "the interval goes by the time itself"
    with pytest.raises(UsageError, match=r"time_difference=-0\.1"):
        ClassifierFreeGuidance(time_difference=-0.1)


def test_an_impossible_interval_is_refused() -> None:
    with pytest.raises(UsageError, match=r"start=0\.2, stop=0\.5: need 0 <= stop <= start <= 1"):
        ClassifierFreeGuidance(start=0.2, stop=0.5)


@pytest.mark.parametrize("rescale", [0.0, 0.7, 1.0])
@torch.no_grad()
def test_rescaling_brings_the_spread_back(network: Counting, rescale: float) -> None:
    x_t, x0_prev, context, null = parts(network)
    t = torch.full((3,), 0.4)
    plain = GuidedDenoiser(network, context, null, ClassifierFreeGuidance(4.0))(x_t, t, x0_prev)
    rescaled = GuidedDenoiser(network, context, null, ClassifierFreeGuidance(4.0, rescale=rescale))(x_t, t, x0_prev)
    with_image = network(x_t, t, context, x0_prev)
    for row in range(3):  # eq. 15 and 16
        brought_back = plain[row] * with_image[row].std() / plain[row].std()
        torch.testing.assert_close(rescaled[row], rescale * brought_back + (1 - rescale) * plain[row])


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), -float("inf")])
def test_an_impossible_scale_is_refused(scale: float) -> None:
    with pytest.raises(UsageError, match=f"guidance scale={scale}: need a finite number"):
        ClassifierFreeGuidance(scale)


def test_an_impossible_rescaling_is_refused() -> None:
    with pytest.raises(UsageError, match=r"guidance rescale=1\.5: need 0 <= rescale <= 1"):
        ClassifierFreeGuidance(rescale=1.5)
