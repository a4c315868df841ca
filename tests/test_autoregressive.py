"""The autoregressive baseline: its pass, its loss, its candidates and its words."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_baselines import autoregressive, lively, masked, pictures, taught
from tiny_captioner import CAPTIONS
from torch.nn import functional as F

from ladic.baselines.beam import beam_search
from ladic.baselines.decoder import WordByWord
from ladic.errors import UsageError
from ladic.length_control import LengthRange
from ladic.optim import parameter_groups
from ladic.rerank import MinimumBayesRiskSelector, ReconstructionSelector
from ladic.testing import tiny_text_space

SHAPES: list[dict[str, Any]] = [
    {},
    {"norm": "post", "tied": False},
    {"image_width": 12, "image_norm": False, "ffn_width": 20},
    {"qk_norm": True, "rotary": True},
]


@pytest.mark.parametrize("sizes", SHAPES, ids=str)
@torch.no_grad()
def test_one_pass_over_all_words_is_the_pass_word_by_word(sizes: dict[str, Any]) -> None:
    decoder = lively(autoregressive(sizes=sizes)).decoder
    tokens, words = torch.randn(3, 16, 8), torch.randint(0, 30, (6, 9))  # two captions of each picture
    context = decoder.context(tokens)
    whole = decoder(words, context.repeat(2))
    next_word = WordByWord(decoder, context)
    steps = [next_word(words[:, place]) for place in range(9)]
    torch.testing.assert_close(torch.stack(steps, 1), whole, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_rows_that_are_taken_over_bring_their_past_along() -> None:
    decoder = lively(autoregressive()).decoder
    context = decoder.context(torch.randn(1, 16, 8))
    next_word = WordByWord(decoder, context)
    next_word(torch.tensor([5, 6, 7]))
    got = next_word(torch.tensor([8, 9, 9]), torch.tensor([2, 2, 0]))
    asked = torch.tensor([[7, 8], [7, 9], [5, 9]])
    torch.testing.assert_close(got, decoder(asked, context.repeat(3))[:, -1], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_no_word_sees_a_later_one() -> None:
    decoder = lively(autoregressive()).decoder
    context = decoder.context(torch.randn(1, 16, 8))
    words = torch.randint(0, 30, (1, 8))
    changed = words.clone()
    changed[0, 5] = (changed[0, 5] + 1) % 30
    one, other = decoder(words, context)[0], decoder(changed, context)[0]
    assert torch.equal(one[:5], other[:5])
    assert not torch.allclose(one[5:], other[5:])


@torch.no_grad()
def test_attention_in_bf16_on_a_cpu_is_causal_too() -> None:
    decoder = autoregressive().decoder.eval()
    words, tokens = torch.randint(0, 30, (2, 8)), torch.randn(2, 16, 8)
    exact = decoder(words, decoder.context(tokens))
    with torch.autocast("cpu", torch.bfloat16):
        rough = decoder(words, decoder.context(tokens))
    torch.testing.assert_close(rough.float(), exact, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@torch.no_grad()
def test_the_loss_is_the_mean_over_all_words_of_the_batch(smoothing: float) -> None:
    captioner = lively(autoregressive(label_smoothing=smoothing))
    batch = pictures(captioner, ["a red circle", "a", "two small dogs run a a a a a a a a a a", "a blue square"])
    ours = captioner.losses(batch)
    context = captioner.decoder.context(batch["image_tokens"])
    each, right = [], []
    for row in range(4):
        ids = batch["input_ids"][row][batch["attention_mask"][row].bool()].tolist()
        for place in range(1, len(ids)):  # one word at a time, nothing batched, nothing padded
            so_far = torch.tensor([ids[:place]])
            logp = F.log_softmax(captioner.decoder(so_far, context.select(torch.tensor([row])))[0, -1], -1)
            each.append((1 - smoothing) * -logp[ids[place]] - smoothing * logp.mean())
            right.append(int(logp.argmax()) == ids[place])
    assert len(each) == 4 + 2 + 11 + 4, "the third was cut, with its [SEP] kept"
    torch.testing.assert_close(ours["loss"], torch.stack(each).mean(), atol=1e-4, rtol=1e-4)
    assert float(ours["token_accuracy"]) == pytest.approx(sum(right) / len(right))


@torch.no_grad()
def test_ranks_with_captions_of_other_lengths_have_the_loss_of_the_whole_batch() -> None:
    captioner = lively(autoregressive())
    batch: Any = pictures(captioner, ["a red circle", "two small dogs run a a a a a", "a", "a blue square"])
    whole = captioner.losses(batch)["loss"]
    halves = [{name: value[rows] for name, value in batch.items()} for rows in (slice(0, 2), slice(2, 4))]
    words = sum(int(half["attention_mask"][:, 1:].sum()) for half in halves)
    captioner.train()  # without dropout
    strategy = SimpleNamespace(reduce=lambda count, reduce_op: torch.tensor(words / 2))
    captioner._trainer = SimpleNamespace(strategy=strategy)
    each = torch.stack([captioner.losses(half)["loss"] for half in halves])
    torch.testing.assert_close(each.mean(), whole)
    assert not torch.allclose(each[0], each[1], rtol=0.02)


def test_it_learns_to_say_what_it_is_shown() -> None:
    captioner = autoregressive(label_smoothing=0.0)
    told = taught(captioner, 40)
    assert told[-1]["loss"] < 0.1 * told[0]["loss"]
    assert told[-1]["token_accuracy"] == 1.0
    assert captioner.predict_step(pictures(captioner), 0)["captions"] == CAPTIONS
    captioner.beam_size = 1
    output = captioner.predict_step(pictures(captioner), 0)
    assert output["captions"] == CAPTIONS
    lengths = [len(captioner.tokenizer(caption)["input_ids"]) - 1 for caption in CAPTIONS]
    assert output["nfe"] == lengths, "steps to the end of each caption, [SEP] included"


@pytest.mark.parametrize("settings", [{}, {"sampling": "sample", "num_candidates": 3, "top_p": 0.9}], ids=str)
@torch.no_grad()
def test_a_caption_is_the_same_in_every_batch(settings: dict[str, Any]) -> None:
    captioner = lively(autoregressive(**settings))
    tokens = torch.randn(5, 16, 8)
    together = captioner.candidates({"image_tokens": tokens, "image_id": [0, 1, 2, 3, 4]})
    for row in range(5):
        alone = captioner.candidates({"image_tokens": tokens[row : row + 1], "image_id": [row]})
        assert alone.captions[0] == together.captions[row]
        assert alone.scores[0] == pytest.approx(together.scores[row], abs=1e-5)
        assert alone.nfe[0] == together.nfe[row]


@torch.no_grad()
def test_every_row_of_a_beam_is_an_evaluation_for_each_step() -> None:
    captioner = lively(autoregressive(beam_size=3))
    asked: list[int] = []
    captioner.decoder.register_forward_pre_hook(lambda _, inputs: asked.append(len(inputs[0])))
    output = captioner.predict_step(pictures(captioner, rows=1), 0)
    assert output["nfe"][0] * captioner.rows == sum(asked) > 3


@torch.no_grad()
def test_a_beam_has_several_captions_and_never_a_special_token() -> None:
    captioner = lively(autoregressive(num_candidates=4, min_length=1))
    with torch.no_grad():
        for name in ("pad", "cls", "unk", "mask"):
            captioner.decoder.head.bias[captioner.word(name)] = 50.0
    found = captioner.candidates(pictures(captioner))
    assert all(len(set(map(str, own))) >= 2 for own in found.captions)
    assert all(later <= earlier for own in found.scores for earlier, later in pairwise(own))
    assert all(caption for own in found.captions for caption in own[:1])
    best = found.captions
    captioner.beam_size, captioner.num_candidates = 4, 2
    assert captioner.candidates(pictures(captioner)).captions == [own[:2] for own in best], "of a beam of four"


@torch.no_grad()
def test_candidates_are_drawn_by_the_image_and_the_seed_and_chosen_by_a_selector() -> None:
    captioner = lively(autoregressive(sampling="sample", num_candidates=6))
    batch = pictures(captioner)
    alike = {**batch, "image_tokens": batch["image_tokens"][:1].expand(4, -1, -1)}
    first = captioner.candidates(alike)
    assert len({tuple(own) for own in first.captions}) == 4, "images that are alike have draws of their own"
    assert captioner.candidates(alike) == first
    assert captioner.candidates(alike, 2).captions == [own[:2] for own in first.captions]
    likeliest = [own[scores.index(max(scores))] for own, scores in zip(first.captions, first.scores, strict=True)]
    assert captioner.predict_step(alike, 0)["captions"] == likeliest
    captioner.selector = MinimumBayesRiskSelector()
    chosen = captioner.predict_step(alike, 0)
    assert chosen["captions"] == MinimumBayesRiskSelector().select(first.captions)
    assert chosen["selection_nfe"] == [0] * 4
    captioner.seed = 1
    assert captioner.candidates(alike).captions != first.captions
    captioner.selector = ReconstructionSelector()
    with pytest.raises(UsageError, match="ReconstructionSelector: needs the model to choose"):
        captioner.candidates(alike)


def as_numbers(rows: Sequence[Sequence[int]]) -> list[str]:
    """In the place of texts, which another number of tokens may be read from."""
    return [" ".join(map(str, row)) for row in rows]


@torch.no_grad()
def test_a_score_is_the_models_whatever_it_was_drawn_with() -> None:
    captioner = lively(autoregressive(sampling="sample", num_candidates=3, temperature=0.6, top_p=0.8, max_length=4))
    captioner.texts = as_numbers  # type: ignore[method-assign]
    batch = pictures(captioner)
    found = captioner.candidates(batch)
    context = captioner.decoder.context(batch["image_tokens"])
    for row, (captions, scores) in enumerate(zip(found.captions, found.scores, strict=True)):
        for caption, score in zip(captions, scores, strict=True):
            words = torch.tensor([[captioner.word("cls"), *map(int, caption.split()), captioner.word("sep")]])
            logp = captioner.decoder(words[:, :-1], context.select(torch.tensor([row]))).log_softmax(-1)
            said = logp.gather(2, words[:, 1:].unsqueeze(2))
            assert score == pytest.approx(float(said.mean()), abs=1e-4)


def test_options_are_those_that_mean_something() -> None:
    assert "seed" not in autoregressive().options, "a beam draws nothing"
    assert "seed" in autoregressive(sampling="sample").options
    assert {"rerank", "num_candidates"} <= autoregressive().options


@pytest.mark.parametrize("length", [LengthRange(4, 4), LengthRange(0, 2), LengthRange(6)])
@torch.no_grad()
def test_a_caption_has_as_many_tokens_as_asked_for(length: LengthRange) -> None:
    captioner = lively(autoregressive(beam_size=2))
    context = captioner.decoder.context(pictures(captioner)["image_tokens"])
    found = beam_search(
        WordByWord(captioner.decoder, context),
        4,
        start=captioner.word("cls"),
        end=captioner.word("sep"),
        beam_size=2,
        max_length=length.most or 10,
        min_length=length.least or 0,
        banned=captioner.banned(but=["sep"]),
    )
    sizes = [len(words) for each in found for words in each.words]
    assert all((length.least or 0) <= size <= (length.most or 10) for size in sizes)
    texts = [captioner.texts(each.words) for each in found]
    assert captioner.candidates(pictures(captioner), 2, length).captions == texts
    captioner.sampling = "sample"
    captioner.texts = as_numbers  # type: ignore[method-assign]
    drawn = captioner.candidates(pictures(captioner), 5, length)
    longest = length.most or 10
    assert all(steps <= longest + 1 for steps in drawn.nfe)
    sizes = [len(caption.split()) for own in drawn.captions for caption in own]
    assert all((length.least or 0) <= size <= longest for size in sizes)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        (None, (3, 5)),
        (LengthRange(most=4), (3, 4)),
        (LengthRange(least=4), (4, 5)),
        (LengthRange(least=0), (0, 5)),
        (LengthRange(most=2), (2, 2)),
        (LengthRange(least=7), (7, 7)),
        (LengthRange(1, 6), (1, 6)),
    ],
)
@torch.no_grad()
def test_a_bound_that_is_not_asked_for_stays_the_models(asked: LengthRange | None, meant: tuple[int, int]) -> None:
    captioner = lively(autoregressive(beam_size=4, min_length=3, max_length=5))
    free = lively(autoregressive(beam_size=4))
    batch = pictures(captioner)
    assert captioner.candidates(batch, length=asked) == free.candidates(batch, length=LengthRange(*meant))


@torch.no_grad()
def test_scores_that_are_no_numbers_are_told(tmp_path: Path) -> None:
    captioner = lively(autoregressive())
    captioner.decoder.head.bias.fill_(torch.nan)
    with pytest.raises(UsageError, match="scores of the next word aren't finite"):
        captioner.predict_step(pictures(captioner), 0)


@torch.no_grad()
def test_nothing_that_may_be_said_is_an_empty_caption(tmp_path: Path) -> None:
    space = tiny_text_space()
    space.head.restrict(torch.tensor(sorted(space.tokenizer.all_special_ids)))
    space.save_fit(tmp_path / "space.safetensors")
    captioner = autoregressive(vocabulary=str(tmp_path / "space.safetensors"), min_length=2).eval()
    assert captioner.predict_step(pictures(captioner), 0)["captions"] == [""] * 4
    assert captioner.candidates(pictures(captioner)).scores == [[-torch.inf]] * 4


@pytest.mark.parametrize("make", [autoregressive, masked])
@torch.no_grad()
def test_weights_in_half_precision_say_nearly_the_same(make: Any) -> None:
    exact, halved = lively(make()), lively(make()).accelerate("bf16")
    assert {weight.dtype for weight in halved.parameters()} == {torch.bfloat16}
    batch = pictures(exact)
    pixels = {"image": torch.randn(4, 3, 16, 16), "image_id": batch["image_id"]}
    for each in (batch, pixels):
        ours, theirs = halved.candidates(each), exact.candidates(each)
        assert [len(own) for own in ours.captions] == [len(own) for own in theirs.captions]
        best = torch.tensor([[own[0] for own in found.scores] for found in (ours, theirs)])
        torch.testing.assert_close(best[0], best[1], atol=0.05, rtol=0.05)


def test_steps_of_growing_shapes_are_not_compiled() -> None:
    with pytest.raises(UsageError, match="compile: not for AutoregressiveCaptioner"):
        autoregressive().accelerate("fp32", compile=True)


def test_its_words_are_those_of_the_latent_space_it_is_compared_with(tmp_path: Path) -> None:
    space = tiny_text_space()
    known = space.tokenize(["a red circle", "a blue square", "two dogs run"])
    unknown = torch.tensor([space.tokenizer.unk_token_id, space.tokenizer.pad_token_id])
    space.head.restrict(torch.unique(torch.cat([known.input_ids.flatten(), unknown])))
    space.save_fit(tmp_path / "space.safetensors")
    captioner = autoregressive(vocabulary=str(tmp_path / "space.safetensors"))
    ours, theirs = captioner.tokenize(CAPTIONS), space.tokenize(CAPTIONS)
    assert torch.equal(ours.input_ids, theirs.input_ids)
    assert torch.equal(ours.attention_mask, theirs.attention_mask)
    assert captioner.token_lengths(CAPTIONS) == space.token_lengths(CAPTIONS)
    said = set(captioner.decoder.head.vocabulary.tolist())
    assert said - set(space.head.vocabulary.tolist()) == {space.tokenizer.mask_token_id}, "which is never said"
    lost = captioner.words(ours.input_ids)[2] == captioner.word("unk")  # "two small dogs run"
    assert captioner.tokenizer.convert_ids_to_tokens(ours.input_ids[2][lost].tolist()) == ["small"]
    assert captioner.texts([captioner.words(ours.input_ids[0]).tolist()]) == ["a red circle"]


def test_muon_takes_the_hidden_matrices_and_leaves_the_words() -> None:
    for tied in (True, False):
        captioner = autoregressive(sizes={"tied": tied})
        (hidden, *others) = parameter_groups(captioner)
        assert hidden["hidden"]
        scored = {id(p) for p in captioner.decoder.head.parameters()}
        assert not scored & {id(p) for p in hidden["params"]}
        assert scored <= {id(p) for group in others for p in group["params"]}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"beam_size": 0}, "beam_size=0: need at least 1"),
        ({"label_smoothing": 1.0}, r"label_smoothing=1\.0: a share"),
        ({"length": 2}, "length=2: need at least 3"),
        ({"max_length": 40}, r"holds 10; take less, or train with --model\.length=42"),
        ({"min_length": 5, "max_length": 3}, "need 0 <= least <= most"),
        ({"vocabulary": "none.safetensors"}, r"vocabulary='none\.safetensors': no such file; make it with `ladic fit-"),
        ({"tokenizer": "no/such"}, "can't be loaded"),
        ({"sizes": {"num_heads": 5}}, "divides by the heads"),
        ({"sizes": {"hidden_width": -32}}, "decoder hidden_width=-32: need at least 1"),
        ({"sizes": {"num_heads": 0}}, "decoder num_heads=0: need at least 1"),
        ({"sizes": {"image_width": 0}}, "decoder image_width=0: need at least 1"),
        ({"sizes": {"ffn_width": 0}}, "decoder ffn_width=0: need at least 1"),
        ({"sizes": {"norm": "mid"}}, "decoder norm='mid'"),
        ({"sizes": {"dropout": 1.5}}, r"decoder dropout=1\.5"),
        ({"decay": "some"}, "decay='some'"),
        ({"selector": ReconstructionSelector()}, r"needs a model that denoises latents; give --model\.selector="),
        ({"num_candidates": 0}, "num_candidates=0: need at least 1"),
        ({"sampling": "top"}, "sampling='top': accepted are beam, sample"),
        ({"temperature": 0.0}, r"temperature=0\.0: need more than 0; for the likeliest words take sampling=beam"),
        ({"top_p": 0.0}, r"top_p=0\.0: a share of the probability"),
        ({"top_p": 1.5}, r"top_p=1\.5: a share of the probability"),
    ],
)
def test_what_can_not_be_is_told_in_one_line(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        autoregressive(**settings)
    assert "\n" not in str(caught.value)


def test_a_vocabulary_of_another_tokenizer_or_none_is_told(tmp_path: Path) -> None:
    space = tiny_text_space()
    space.head.vocabulary += 1000
    space.save_fit(tmp_path / "other.safetensors")
    with pytest.raises(UsageError, match="made for another tokenizer"):
        autoregressive(vocabulary=str(tmp_path / "other.safetensors"))
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="can't be read"):
        autoregressive(vocabulary=str(tmp_path / "broken.safetensors"))
