"""Drawing captions word by word: shares against a small model's own distribution, counted out in full."""

import itertools
import math
from collections import Counter

import pytest
import torch
from test_beam import END, START, Table

from ladic.baselines.sampling import drawn, sample_words
from ladic.errors import UsageError


def sampled(number: int, **options: object) -> list[list[int]]:
    settings = {"start": START, "end": END, "max_length": 2, "banned": torch.arange(4) == START, **options}
    (found,) = sample_words(Table(1, 4, seed=3), [list(range(number))], **settings)  # type: ignore[arg-type]
    return found.words


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_captions_come_as_often_as_the_model_says(temperature: float) -> None:
    table, expected = Table(1, 4, seed=3), {}
    for length in range(3):
        for caption in itertools.product((2, 3), repeat=length):
            chance, said = 1.0, (START,)
            for word in (*caption, END)[:2]:  # after two words nothing but the end is left
                logits = table.logits(0, said) / temperature
                logits[START] = -torch.inf
                chance *= float(logits.softmax(-1)[word])
                said = (*said, word)
            expected[caption] = chance
    assert sum(expected.values()) == pytest.approx(1)
    number = 4000
    counts = Counter(tuple(words) for words in sampled(number, temperature=temperature))
    assert set(counts) <= set(expected)
    for caption, chance in expected.items():
        assert abs(counts[caption] / number - chance) < 4 * math.sqrt(chance * (1 - chance) / number) + 1e-3


def test_a_nucleus_is_the_fewest_words_that_have_the_share() -> None:
    shares = torch.tensor([0.15, 0.4, 0.05, 0.4])
    uniform = torch.linspace(0, 1 - 1e-6, 1001)
    for top_p, kept in ((0.3, {1}), (0.5, {1, 3}), (0.79, {1, 3}), (0.9, {0, 1, 3}), (1.0, {0, 1, 2, 3})):
        words = drawn(shares.log().expand(1001, 4), uniform, top_p)
        assert set(words.tolist()) == kept, top_p
        share = shares[sorted(kept)] / shares[sorted(kept)].sum()
        for word, chance in zip(sorted(kept), share.tolist(), strict=True):
            assert float((words == word).float().mean()) == pytest.approx(chance, abs=2e-3)


def test_a_word_without_a_share_is_never_drawn() -> None:
    logits = torch.full((1, 5), -torch.inf)
    logits[:, 1:3] = torch.tensor([0.0, 1.0])
    nearly_one = torch.nextafter(torch.ones(1), torch.zeros(1))
    for top_p in (1.0, 0.999):
        assert drawn(logits, torch.zeros(1), top_p).item() in (1, 2)
        assert drawn(logits, nearly_one, top_p).item() in (1, 2)
    assert (drawn(logits, torch.zeros(1)).item(), drawn(logits, nearly_one).item()) == (1, 2)


def test_a_draw_does_not_depend_on_the_others() -> None:
    together = sampled(20)
    for seed in (0, 7, 19):
        settings = {"start": START, "end": END, "max_length": 2, "banned": torch.arange(4) == START}
        (alone,) = sample_words(Table(1, 4, seed=3), [[seed]], **settings)  # type: ignore[arg-type]
        assert alone.words == [together[seed]]


def test_lengths_are_kept_and_what_can_not_be_is_told() -> None:
    assert {len(words) for words in sampled(50, min_length=1)} == {1, 2}
    assert sampled(3, min_length=1, banned=torch.arange(4) != END) == [[], [], []]
    table = Table(1, 4)
    table.logits = lambda image, said: torch.full((4,), torch.nan)  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="aren't finite"):
        sample_words(table, [[0]], start=START, end=END, max_length=3)
