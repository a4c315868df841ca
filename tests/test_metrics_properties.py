"""What must hold for any captions: hypothesis draws them."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from ladic.metrics.caption_store import CaptionStore
from ladic.metrics.functional.ptb_tokenizer import PUNCTUATION, ptb_tokenize
from ladic.metrics.functional.rouge import common_lengths
from ladic.metrics.scoring import score_captions

METRICS = ["bleu", "rouge", "cider"]
word = st.sampled_from(["a", "dog", "cat", "runs", "on", "grass", "two", "isn't", "(red)"])
caption = st.lists(word, max_size=9).map(" ".join)
images = st.lists(st.tuples(caption, st.lists(caption, min_size=1, max_size=4)), min_size=1, max_size=6)
quick = settings(max_examples=40, deadline=None)


@quick
@given(images, st.randoms(use_true_random=False))
def test_the_order_of_images_does_not_matter(rows, rng: random.Random):
    ids = list(range(len(rows)))
    straight = score_captions({i: rows[i][0] for i in ids}, {i: rows[i][1] for i in ids}, METRICS)
    rng.shuffle(ids)
    shuffled = score_captions({i: rows[i][0] for i in ids}, {i: rows[i][1] for i in ids}, METRICS)
    assert shuffled == straight


@quick
@given(images)
def test_scores_stay_in_their_ranges(rows):
    scores = score_captions(
        {i: row[0] for i, row in enumerate(rows)}, {i: row[1] for i, row in enumerate(rows)}, METRICS
    )
    for values in [scores.corpus, *scores.per_image.values()]:
        for name, value in values.items():
            assert 0 <= value <= (10 if name == "CIDEr-D" else 1) + 1e-9


@quick
@given(st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=5, max_size=9), min_size=2, max_size=5, unique_by=tuple))
def test_a_perfect_caption_scores_the_maximum(sentences):
    # one word of its own per image: an n-gram that all images have weighs nothing in CIDEr-D
    texts = [" ".join([f"word{i}"] * 4 + sentence) for i, sentence in enumerate(sentences)]
    scores = score_captions(dict(enumerate(texts)), {i: [text] for i, text in enumerate(texts)}, METRICS)
    for values in [scores.corpus, *scores.per_image.values()]:
        for name, value in values.items():
            assert abs(value - (10 if name == "CIDEr-D" else 1)) < 1e-6


@quick
@given(images)
def test_duplicates_change_nothing(rows):
    once, twice = CaptionStore(), CaptionStore()
    for i, (text, references) in enumerate(rows):
        once.add([i], [text], [references])
        twice.add([i, i], [text, text], [references, references])
    for i, (text, references) in enumerate(rows):
        twice.add([i], [text], [references])
    assert score_captions(twice.captions, twice.references, METRICS) == score_captions(
        once.captions, once.references, METRICS
    )


@quick
@given(images)
def test_an_empty_caption_scores_nothing_and_stays(rows):
    captions = {i: row[0] for i, row in enumerate(rows)} | {"empty": ""}
    references = {i: row[1] for i, row in enumerate(rows)} | {"empty": ["a dog runs"]}
    scores = score_captions(captions, references, METRICS)
    assert scores.per_image["empty"] == dict.fromkeys(scores.corpus, 0.0)


@quick
@given(st.text(max_size=60))
def test_tokens_of_any_text_are_clean(text):
    tokens = ptb_tokenize(text)
    words = tokens.split(" ") if tokens else []
    assert all(words)
    assert not PUNCTUATION & set(words)
    assert ptb_tokenize(f"  {text} ") == tokens or "\ud800" in text


@quick
@given(st.lists(st.sampled_from("abc"), max_size=70), st.lists(st.sampled_from("abc"), max_size=70))
def test_longest_common_subsequence(left, right):
    table = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]  # the textbook's dynamic programme
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
    assert common_lengths(left, [right]) == [table[-1][-1]]
