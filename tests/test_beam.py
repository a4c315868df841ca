"""Beam search against every caption there is, and against transformers' own."""

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from ladic.baselines.beam import beam_search
from ladic.errors import UsageError

START, END = 0, 1


class Table:
    """Scores of the next word that depend on all words before it, drawn at random, for several images.

    Rows remember what they have said, as a cache of keys and values does.
    """

    def __init__(self, images: int, vocabulary: int, seed: int = 0) -> None:
        self.images, self.vocabulary, self.seed, self.asked = images, vocabulary, seed, 0
        self.said: list[tuple[int, ...]] = []

    def logits(self, image: int, said: tuple[int, ...]) -> Tensor:
        generator = torch.Generator().manual_seed(hash((self.seed, image, said)) % 2**31)
        return 2 * torch.randn(self.vocabulary, generator=generator)

    def __call__(self, words: Tensor, rows: Tensor | None = None) -> Tensor:
        self.asked += 1
        before = self.said or [()] * len(words)
        if rows is not None:
            before = [before[row] for row in rows.tolist()]
        self.said = [(*said, word) for said, word in zip(before, words.tolist(), strict=True)]
        beams = len(words) // self.images
        return torch.stack([self.logits(row // beams, said) for row, said in enumerate(self.said)])

    def every_caption(self, image: int, longest: int, banned: set[int]) -> Iterator[tuple[list[int], float, int]]:
        """All captions, their log-probabilities, and of how many words these are, the end among them."""
        words = [word for word in range(self.vocabulary) if word != END and word not in banned]
        for length in range(longest + 1):
            for caption in itertools.product(words, repeat=length):
                ends = [*caption, END]
                said, total = (START,), 0.0
                for word in ends:
                    total += float(torch.log_softmax(self.logits(image, said), -1)[word])
                    said = (*said, word)
                yield list(caption), total, len(ends)


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("min_length", [0, 2])
def test_a_wide_beam_finds_the_best_of_all_captions(length_penalty: float, min_length: int) -> None:
    table, banned = Table(images=3, vocabulary=5), {START}
    found = beam_search(
        table,
        3,
        start=START,
        end=END,
        beam_size=100,  # more than the 1 + 3 + 9 + 27 captions there are
        max_length=3,
        min_length=min_length,
        length_penalty=length_penalty,
        banned=torch.tensor([word in banned for word in range(5)]),
    )
    for image, ours in enumerate(found):
        every = [
            (total / words**length_penalty, caption)
            for caption, total, words in table.every_caption(image, 3, banned)
            if len(caption) >= min_length
        ]
        every.sort(reverse=True)
        assert len(ours.words) == len(every)
        assert ours.words[:5] == [caption for _, caption in every[:5]]
        assert ours.scores == pytest.approx([score for score, _ in every], abs=1e-5)


def test_a_beam_of_one_is_greedy() -> None:
    table = Table(images=8, vocabulary=4, seed=5)
    found = beam_search(table, 8, start=START, end=END, beam_size=1, max_length=6)
    for image, ours in enumerate(found):
        said: tuple[int, ...] = (START,)
        while len(said) < 7 and said[-1] != END:
            said = (*said, int(table.logits(image, said).argmax()))
        assert ours.words == [[word for word in said[1:] if word != END]]
        assert ours.steps == (len(said) - 1 if said[-1] == END else 7), "one that is cut is asked for its end too"
    assert len({each.steps for each in found}) > 1, "they end at different times"


def test_an_image_is_searched_as_if_it_were_alone() -> None:
    options = {"start": START, "end": END, "beam_size": 3, "max_length": 6}
    together = beam_search(Table(4, 6), 4, **options)

    class Alone(Table):
        def logits(self, image: int, said: tuple[int, ...]) -> Tensor:
            return super().logits(number, said)

    for number in range(4):
        assert beam_search(Alone(1, 6), 1, **options)[0] == together[number]


def test_a_caption_that_is_cut_pays_for_its_end_too() -> None:
    """Two words as likely as each other, of which one never ends."""
    table = Table(1, 4)
    never, soon = torch.tensor([-9.0, -9.0, 0.0, 0.0]), torch.tensor([-9.0, 3.0, 0.0, 0.0])
    table.logits = lambda image, said: never if len(said) == 1 or said[1] == 2 else soon  # type: ignore[method-assign]
    (found,) = beam_search(table, 1, start=START, end=END, beam_size=2, max_length=1)
    assert found.words == [[3], [2]]
    assert found.scores[1] < found.scores[0] - 3


def test_scores_that_are_no_numbers_are_told_and_nothing_to_say_is_an_empty_caption() -> None:
    table = Table(2, 4)
    table.logits = lambda image, said: torch.full((4,), torch.nan if image else 0.0)  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="aren't finite"):
        beam_search(table, 2, start=START, end=END, beam_size=2, max_length=3)
    (found,) = beam_search(
        Table(1, 4), 1, start=START, end=END, beam_size=2, max_length=3, min_length=1, banned=torch.arange(4) != END
    )
    assert (found.words, found.scores, found.steps) == ([[]], [-torch.inf], 1)


def test_it_stops_when_all_are_done() -> None:
    table = Table(2, 4)
    table.logits = lambda image, said: torch.tensor([0.0, 9.0 if len(said) > 2 else -9.0, 0.0, 1.0])  # type: ignore[method-assign]
    found = beam_search(table, 2, start=START, end=END, beam_size=2, max_length=50)
    assert table.asked == max(each.steps for each in found) < 6
