"""Post-processing: ours, and the released code's with its bug."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ladic.errors import UsageError
from ladic.postprocess import CleanCaption, ReleasedPostProcessor
from ladic.postprocess.clean import said_once
from ladic.testing import check_rebuilds, tiny_text_space


@pytest.mark.parametrize(
    ("settings", "before", "after"),
    [
        ({}, "a a dog dog runs", "a dog runs"),
        ({"repeats": 0}, "a a dog", "a a dog"),
        ({"repeats": 2}, "a cat a cat a cat on on a mat", "a cat on a mat"),
        ({"casing": "sentence"}, "a dog. two cats ! yes", "A dog. Two cats! Yes"),
        ({"casing": "lower"}, "A Dog", "a dog"),
        ({"ending": "stop"}, "a dog . .", "a dog."),
        ({"ending": "stop"}, "is it ?", "is it?"),
        ({"ending": "none"}, "a dog.", "a dog"),
        ({"ending": "stop"}, "", ""),
        ({}, "the man 's dog is n't , well , his", "the man's dog isn't, well, his"),
        ({"detokenize": False}, "man 's , dog", "man 's , dog"),
    ],
)
def test_clean(settings: dict, before: str, after: str) -> None:
    assert CleanCaption(**settings).text(before) == after


@given(st.lists(st.sampled_from("abc"), max_size=12), st.integers(1, 3))
def test_nothing_is_said_twice_in_a_row_afterwards(words: list[str], run: int) -> None:
    kept = said_once(words, run)
    assert all(kept[i : i + run] != kept[i + run : i + 2 * run] for i in range(len(kept) - 2 * run + 1))
    assert said_once(kept, run) == kept


def test_released_as_written_down() -> None:
    """E5: equal neighbours of the whole batch's matrix, decode with specials, equal words, full stops."""
    space = tiny_text_space()
    vocabulary = space.tokenizer.get_vocab()

    def ids(text: str) -> list[int]:
        return [vocabulary[word] for word in text.split()]

    rows = torch.tensor([ids(". a red red circle . ."), ids(". two dogs dogs run . .")])
    assert torch.equal(space.head.vocabulary, torch.arange(len(vocabulary)))
    together = ReleasedPostProcessor(batch_wide=True)
    assert together(rows, space) == ["a red circle.", "two dogs run."]
    # A neighbour that repeats itself elsewhere keeps this one's pair of tokens; words are still dropped after decoding.
    pieces = torch.tensor([ids(". a ##b ##b . ."), ids(". two dogs run . .")])
    assert together(pieces, space)[0] == "abb."
    assert together(pieces[:1], space) == ["ab."], "the caption depends on its batch: the released bug"
    alone = ReleasedPostProcessor()
    assert alone(pieces, space)[0] == "ab." == alone(pieces[:1], space)[0], "by itself it doesn't"
    unskipped = torch.tensor([ids("[CLS] a [PAD] dog")]) if "dog" in vocabulary else rows[:1]
    assert "[PAD]" in alone(unskipped, space)[0] or "dog" not in vocabulary


def test_mistakes_are_named_and_processors_rebuild() -> None:
    for processor in (CleanCaption(repeats=3, casing="sentence"), ReleasedPostProcessor(batch_wide=True)):
        check_rebuilds(processor)
    with pytest.raises(UsageError, match="casing='title': accepted are keep, sentence, lower"):
        CleanCaption(casing="title")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="repeats=-1"):
        CleanCaption(repeats=-1)
