"""Analog bits as a text latent space: the codes, and how they are read back from noise."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ladic.components import AnalogBitsLatentSpace
from ladic.errors import UsageError
from ladic.testing import tiny_tokenizer


def analog(**kwargs: Any) -> AnalogBitsLatentSpace:
    return AnalogBitsLatentSpace(tiny_tokenizer(), length=12, **kwargs)


@torch.no_grad()
def test_a_token_is_its_number_in_binary() -> None:
    space = analog(scale=0.5, reassign=False)
    words = len(space.tokenizer)
    assert space.width == int(np.ceil(np.log2(words)))
    ids = torch.arange(words).view(1, -1)
    expected = [[0.5 if number >> place & 1 else -0.5 for place in range(space.width)] for number in range(words)]
    np.testing.assert_array_equal(space.encode(ids, torch.ones_like(ids))[0].numpy(), expected)
    assert bool(space.normalizer.fitted), "there is nothing to fit"


@torch.no_grad()
def test_every_word_is_read_back_and_the_nearest_one_from_noise() -> None:
    space = analog(reassign=False)
    ids = torch.arange(len(space.tokenizer)).view(1, -1)
    codes = space.encode(ids, torch.ones_like(ids))
    assert torch.equal(space.decode(codes).argmax(-1), ids)
    noisy = codes + 0.8 * torch.randn(20, *codes.shape[1:], generator=torch.Generator().manual_seed(0))
    distances = torch.cdist(noisy, codes.expand(20, -1, -1))
    assert torch.equal(space.decode(noisy).argmax(-1), distances.argmin(-1))


@torch.no_grad()
def test_logits_are_log_likelihoods_under_noise_of_the_temperature() -> None:
    space = analog(scale=2.0, temperature=0.7, reassign=False)
    ids = torch.arange(len(space.tokenizer)).view(1, -1)
    codes = space.encode(ids, torch.ones_like(ids))[0] / 2
    x = torch.randn(1, 3, space.width)
    squares = (x[0, :, None] / 2 - codes).square().sum(-1)
    expected = torch.log_softmax(-squares / (2 * 0.7), -1)
    torch.testing.assert_close(space.decode(x)[0].log_softmax(-1), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_special_positions_say_pad_with_a_code_of_their_own() -> None:
    space = analog()
    tokens = space.tokenize(["a red circle", ""])
    special = space.special_positions(tokens.input_ids, tokens.attention_mask)
    x0 = space.encode(tokens.input_ids, tokens.attention_mask)
    assert (x0[special].abs() == 1).all(), "not zero, from which no word is nearer than another"
    assert (space.decode(x0).argmax(-1)[special] == space.tokenizer.pad_token_id).all()


@settings(deadline=None, max_examples=40)
@given(words=st.lists(st.from_regex(r"[a-z]{1,4}", fullmatch=True), max_size=4), scale=st.floats(0.05, 20))
def test_text_survives_bits_and_back(words: list[str], scale: float) -> None:
    space = analog(scale=scale)
    tokens = space.tokenize([" ".join(words)])
    x0 = space.encode(tokens.input_ids, tokens.attention_mask)
    read = space.decode(x0).argmax(-1)
    assert torch.equal(read, space.targets(tokens.input_ids, tokens.attention_mask))
    whole = space.token_lengths([" ".join(words)])[0] <= space.length
    assert not whole or space.to_text(read) == [" ".join(words)]


def test_a_restricted_vocabulary_is_saved_and_words_keep_their_codes(tmp_path) -> None:
    whole, small = analog(), analog()
    kept = torch.unique(torch.cat([whole.tokenize(["a red circle"]).input_ids.flatten(), torch.tensor([1])]))
    small.head.restrict(kept)
    small.save_fit(tmp_path / "fit.safetensors")
    again = analog(fitted=str(tmp_path / "fit.safetensors"))
    assert torch.equal(again.head.vocabulary, kept)
    latents = torch.randn(2, 12, whole.width)
    torch.testing.assert_close(again.decode(latents), whole.decode(latents)[..., kept])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"scale": 0.0}, r"scale=0\.0: need more than 0"),
        ({"temperature": -1.0}, r"temperature=-1\.0: need more than 0"),
        ({"length": 2}, "length=2: need at least 3"),
    ],
)
def test_bad_settings_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        AnalogBitsLatentSpace(tiny_tokenizer(), **arguments)
