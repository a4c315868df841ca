"""What blocks may have beyond LaDiC's: rotary positions, normalised queries and keys, and adaLN-Zero."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ladic.components import CrossAttentionDenoiser, PrefixDenoiser
from ladic.components.denoisers.layers import Attention, Modulation, rotate
from ladic.errors import UsageError

SIZES: dict[str, Any] = {
    "width": 8, "length": 4, "cond_width": 6, "hidden_width": 16, "num_heads": 2, "num_layers": 2, "dropout": 0.0,
    "norm": "pre",
}  # fmt: skip


def test_rotation_is_a_product_of_complex_numbers() -> None:
    x = torch.randn(2, 3, 5, 8)
    points = x[..., :4].numpy() + 1j * x[..., 4:].numpy()
    turns = np.exp(1j * np.arange(7, 12)[:, None] * 10000.0 ** (-2 * np.arange(4) / 8))
    turned = points * turns
    expected = np.concatenate([turned.real, turned.imag], axis=-1)
    np.testing.assert_allclose(rotate(x, first=7).numpy(), expected, atol=1e-5)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_what_a_key_is_worth_depends_on_its_distance(query_at: int, key_at: int, shift: int) -> None:
    query, key = torch.linspace(-1, 1, 8).view(1, 8), torch.linspace(2, -1, 8).view(1, 8)
    worth = [(rotate(query, query_at + by) * rotate(key, key_at + by)).sum() for by in (0, shift)]
    torch.testing.assert_close(worth[0], worth[1], atol=1e-4, rtol=1e-4)


def test_normalised_queries_and_keys_have_no_length() -> None:
    attention = Attention(16, 2, qk_norm=True)
    x, source = torch.randn(3, 4, 16), torch.randn(3, 5, 16)
    before = attention(x, *attention.keys_values(source))
    with torch.no_grad():
        attention.query.weight.mul_(3)
        attention.query.bias.mul_(3)
    torch.testing.assert_close(attention(x, *attention.keys_values(source)), before, atol=1e-4, rtol=1e-4)
    key, _ = attention.keys_values(source)
    torch.testing.assert_close(key.square().mean(-1), torch.ones(3, 2, 5), atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("init_std", [None, 0.02])
def test_adaptive_blocks_do_nothing_at_first_and_read_the_time_then(init_std: float | None) -> None:
    denoiser = CrossAttentionDenoiser(**SIZES, time="adaln_zero", init_std=init_std).eval()
    x_t, context = torch.randn(2, 4, 8), denoiser.context(torch.randn(2, 5, 6))
    early, late = torch.tensor([0.1, 0.1]), torch.tensor([0.9, 0.9])
    nothing = denoiser.leave(denoiser.enter(x_t, early, None)[0])
    for t in (early, late):
        torch.testing.assert_close(denoiser(x_t, t, context), nothing)
    for module in denoiser.modules():
        if isinstance(module, Modulation):
            module.weight.normal_(std=0.5)
    assert not torch.equal(denoiser(x_t, early, context), denoiser(x_t, late, context))


@torch.no_grad()
def test_an_adaptive_block_shifts_scales_and_gates_each_layer_by_its_own() -> None:
    denoiser = CrossAttentionDenoiser(**SIZES | {"num_layers": 1}, time="adaln_zero").eval()
    (block,) = denoiser.blocks
    assert block.modulation is not None
    block.modulation.bias.copy_(torch.randn(9 * 16))
    x, condition, context = torch.randn(2, 4, 16), torch.zeros(2, 16), denoiser.context(torch.randn(2, 5, 6))
    shift, scale, gate = block.modulation.bias.view(3, 3, 16).unbind(1)
    y = block.norms[0](x) * (1 + scale[0]) + shift[0]
    h = x + gate[0] * block.self_attention(y, *block.self_attention.keys_values(y))
    assert block.cross_attention is not None
    h = h + gate[1] * block.cross_attention(block.norms[1](h) * (1 + scale[1]) + shift[1], *context.tensors)
    h = h + gate[2] * block.feed_forward(block.norms[2](h) * (1 + scale[2]) + shift[2])
    torch.testing.assert_close(block(x, *context.tensors, condition=condition), h)


@pytest.mark.parametrize("make", [CrossAttentionDenoiser, PrefixDenoiser])
@pytest.mark.parametrize("option", ["num_heads=0", "num_heads=-2", "num_layers=0", "num_layers=-1", "hidden_width=0",
                                    "ffn_width=-1", "time_entries=0", "time_entries=1"])  # fmt: skip
def test_sizes_that_make_no_network_are_refused_by_name(make: Any, option: str) -> None:
    name, value = option.split("=")
    with pytest.raises(UsageError, match=f"^{option}: need at least"):
        make(**{"width": 8, "length": 4, "cond_width": 6, "hidden_width": 16, "num_heads": 2, name: int(value)})


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(UsageError, match="time='adaln_zero', norm='post': it changes what norms make; give norm='pre'"):
        CrossAttentionDenoiser(**SIZES | {"norm": "post"}, time="adaln_zero")
    with pytest.raises(UsageError, match="rotary=True, hidden_width=6, num_heads=2: heads of 3, and only an even"):
        CrossAttentionDenoiser(**SIZES | {"hidden_width": 6}, rotary=True)
