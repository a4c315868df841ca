"""Rounding latents to words: the trigram model, the beam over it, and both inside the sampler."""

import itertools
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_generation import IDS, World
from tiny_run import error_line, picture, write_config

from ladic import ClassifierFreeGuidance
from ladic.captioner import LatentDiffusionCaptioner
from ladic.components import BertLatentSpace, CosineSchedule, DDIMSampler, RenoiseSampler, Sampler
from ladic.components.latent_spaces.words import Words
from ladic.errors import UsageError
from ladic.generation import Generation, generate
from ladic.length_control import LengthDenoiser, LengthRange
from ladic.rounding import ArgmaxRounding, NgramRounding, Rounding, TrigramModel
from ladic.rounding.key_table import KeyTable
from ladic.testing import tiny_text_space

BEGIN, STOP = 1, 2


def padded(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Captions as a tokenizer gives them, and their lengths."""
    whole = [[BEGIN, *row, STOP] for row in rows]
    longest = max(map(len, whole))
    return torch.tensor([row + [0] * (longest - len(row)) for row in whole]), torch.tensor(list(map(len, whole)))


class ByHand:
    """Witten and Bell's formula with dictionaries."""

    def __init__(self, rows: list[list[int]]) -> None:
        whole = [[BEGIN, BEGIN, *row, STOP] for row in rows]
        self.counts = Counter(
            tuple(row[place + 1 - size : place + 1])
            for row in whole
            for place in range(2, len(row))
            for size in (1, 2, 3)
        )

    def __call__(self, *words: int) -> float:
        if len(words) == 1:
            single = {gram: count for gram, count in self.counts.items() if len(gram) == 1}
            return (self.counts[words] + 1) / (sum(single.values()) + len(single) + 1)
        behind = [count for gram, count in self.counts.items() if gram[:-1] == words[:-1] and len(gram) == len(words)]
        shorter = self(*words[1:])
        if not behind:
            return shorter
        return (self.counts[words] + len(behind) * shorter) / (sum(behind) + len(behind))


CAPTIONS = st.lists(st.lists(st.integers(3, 8), max_size=5), min_size=1, max_size=6)


@settings(max_examples=60)
@given(rows=CAPTIONS, context=st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_the_trigram_model_is_witten_and_bells(rows: list[list[int]], context: tuple[int, int]) -> None:
    model, by_hand = TrigramModel.count(*padded(rows)), ByHand(rows)
    words = torch.arange(2, 10)
    first, second = (torch.tensor(word) for word in context)
    found = model.log_prob(first, second, words).exp()
    torch.testing.assert_close(found, torch.tensor([by_hand(*context, word) for word in words.tolist()]))
    seen = {word for row in rows for word in row} | {STOP}
    sums = found[[word in seen for word in words.tolist()]].sum() + by_hand(*context, 99)
    assert float(sums) == pytest.approx(1, abs=1e-5), "of all words that were seen, and one that was not"


@settings(max_examples=60)
@given(stored=st.dictionaries(st.integers(0, 2**60), st.integers(1, 99)), others=st.lists(st.integers(0, 2**60)))
def test_a_table_of_keys_is_a_dictionary(stored: dict[int, int], others: list[int]) -> None:
    table = KeyTable(torch.tensor(list(stored), dtype=torch.long), torch.tensor(list(stored.values())))
    asked = [*stored, *others]
    assert table(torch.tensor(asked, dtype=torch.long)).tolist() == [stored.get(key, 0) for key in asked]


def tiny_words(size: int) -> Words:
    """So many words behind the end, which is number 0; their token ids are their numbers and 3."""
    filler = torch.arange(size + 1) == 0
    ids = torch.cat([torch.tensor([0]), torch.arange(3, size + 3)])
    return Words(ids, filler, 1, end=0, begin_id=BEGIN, stop_id=STOP)


@settings(max_examples=40, deadline=None)
@given(
    rows=CAPTIONS,
    seed=st.integers(0, 999),
    weight=st.sampled_from([0.0, 0.5, 2.0]),
    bonus=st.sampled_from([-1.0, 0.0, 1.5]),
    no_repeat=st.integers(0, 3),
)
def test_a_wide_beam_finds_the_best_of_all_captions(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[list[int]],
    seed: int,
    weight: float,
    bonus: float,
    no_repeat: int,
) -> None:
    file = tmp_path_factory.mktemp("ngrams") / "n.safetensors"
    model = TrigramModel.count(*padded(rows))
    model.save(file)
    words, length = tiny_words(3), 5
    logits = 3 * torch.randn(2, length, 4, generator=torch.Generator().manual_seed(seed))
    rounding = NgramRounding(
        str(file), weight=weight, bonus=bonus, choices=3, beam_size=1000, no_repeat=no_repeat, readings=3
    )
    found = rounding.several(logits, words)
    assert found.shape == (2, 3, length)
    assert torch.equal(found[:, 0], rounding(logits, words))
    scores = logits.log_softmax(-1)

    def value(row: int, caption: tuple[int, ...]) -> float:
        line = [0, *caption, *[0] * (length - 1 - len(caption))]
        said = [int(words.ids[word]) for word in caption]
        suits = 0.0
        for first, second, third in zip([BEGIN, BEGIN, *said], [BEGIN, *said], [*said, STOP], strict=False):
            suits += float(model.log_prob(*map(torch.tensor, (first, second, third))))
        return sum(float(scores[row, i, word]) for i, word in enumerate(line)) + weight * suits + bonus * len(caption)

    def repeats(caption: tuple[int, ...]) -> bool:
        grams = [caption[i : i + no_repeat] for i in range(len(caption) - no_repeat + 1)]
        return no_repeat > 0 and len(set(grams)) < len(grams)

    captions = [c for size in range(length) for c in itertools.product((1, 2, 3), repeat=size) if not repeats(c)]
    for row in range(2):
        said = []
        for line in found[row].tolist():
            assert line[0] == 0
            said.append(tuple(itertools.takewhile(bool, line[1:])))
            assert not any(line[1 + len(said[-1]) :]), "nothing behind the end"
            assert not repeats(said[-1])
        assert len(set(said)) == 3
        best = sorted((value(row, caption) for caption in captions), reverse=True)[:3]
        assert [value(row, caption) for caption in said] == pytest.approx(best, abs=1e-3)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def ngrams(world: World, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Counts of a few captions of the tiny vocabulary."""
    file = tmp_path_factory.mktemp("ngrams") / "ngrams.safetensors"
    tokens = world.space.tokenize(["a red circle", "a blue square and a red circle", "a large green triangle"])
    TrigramModel.count(tokens.input_ids, tokens.attention_mask.sum(1)).save(file)
    return str(file)


@torch.no_grad()
def run(
    world: World,
    rounding: Rounding | None,
    length: LengthRange | None = None,
    seen: list | None = None,
    sampler: Sampler | None = None,
    rows: slice | None = None,
    number: int = 1,
) -> Generation:
    return generate(
        world.tokens[rows or slice(None)],
        None,
        IDS[rows or slice(None)],
        denoiser=world.denoiser,
        latent_space=world.space,
        schedule=CosineSchedule(),
        sampler=sampler or RenoiseSampler(3),
        guidance=ClassifierFreeGuidance(1.0),
        length=length,
        rounding=rounding,
        num_candidates=number,
        on_step=None if seen is None else lambda step: seen.append(step.x0),
    )


class Heard(Rounding):
    """Another rounding, and all that it said."""

    def __init__(self, rounding: Rounding) -> None:
        self.rounding, self.clamp, self.readings = rounding, rounding.clamp, rounding.readings
        self.said: list[torch.Tensor] = []

    def __call__(self, logits: torch.Tensor, words: Words) -> torch.Tensor:
        return self.several(logits, words)[:, 0]

    def several(self, logits: torch.Tensor, words: Words) -> torch.Tensor:
        found = self.rounding.several(logits, words)
        self.said.append(found[:, 0])
        return found


def test_without_clamping_argmax_is_what_a_captioner_does_anyway(world: World) -> None:
    plain, rounded = run(world, None), run(world, ArgmaxRounding(clamp=False))
    assert plain.candidates == rounded.candidates
    assert torch.equal(plain.latents, rounded.latents)


@torch.no_grad()
@pytest.mark.parametrize("sampler", [RenoiseSampler(3), DDIMSampler(3)], ids=["renoise", "ddim"])
@pytest.mark.parametrize("kind", ["argmax", "ngram"])
def test_clamped_estimates_are_latents_of_captions_and_rounded_once(
    world: World, ngrams: str, kind: str, sampler: Sampler
) -> None:
    rounding = Heard(ArgmaxRounding() if kind == "argmax" else NgramRounding(ngrams))
    seen: list[torch.Tensor] = []
    found = run(world, rounding, seen=seen, sampler=sampler)
    assert len(seen) == len(rounding.said) == 3, "the last estimate is not rounded again"
    words = Words.of(world.space)
    for x0, said in zip(seen, rounding.said, strict=True):
        assert torch.equal(x0, words.encode(world.space, said))
    assert torch.equal(found.latents, seen[-1])
    assert [caption for row in found.candidates for caption in row] == world.space.to_text(rounding.said[-1])


@torch.no_grad()
def test_without_clamping_the_last_estimate_alone_is_rounded(world: World, ngrams: str) -> None:
    rounding = Heard(NgramRounding(ngrams, clamp=False))
    found = run(world, rounding)
    assert torch.equal(found.latents, run(world, None).latents), "the sampler walks as it does without"
    assert len(rounding.said) == 1


@torch.no_grad()
def test_a_caption_in_words_has_the_latent_of_its_text() -> None:
    space = tiny_text_space()
    words, texts = Words.of(space), ["a red circle", "a large blue square and a small red circle"]
    tokens = space.tokenize(texts)
    indices = space.head.index_of(tokens.input_ids, space.tokenizer.unk_token_id)
    inside = ~space.special_positions(tokens.input_ids, tokens.attention_mask)
    indices = torch.where(inside, indices, words.end)
    expected = space.encode(tokens.input_ids, tokens.attention_mask)
    torch.testing.assert_close(words.encode(space, indices), expected)


def test_words_follow_each_other_as_they_did_where_the_model_of_words_weighs_all(world: World, ngrams: str) -> None:
    """An untrained denoiser has no opinion: what comes out are captions of three words that were counted."""
    found = run(world, NgramRounding(ngrams, weight=50.0, bonus=0.0, choices=len(world.space.head.vocabulary)))
    assert {caption for row in found.candidates for caption in row} <= {"a red circle", "a large green triangle"}


@settings(max_examples=15, deadline=None)
@given(least=st.integers(0, 10), more=st.integers(0, 10), clamp=st.booleans())
def test_a_range_of_lengths_is_kept(world: World, ngrams: str, least: int, more: int, clamp: bool) -> None:
    most = min(10, max(1, least + more))
    rounding = Heard(NgramRounding(ngrams, clamp=clamp))
    run(world, rounding, LengthRange(least, most))
    counts = rounding.said[-1].ne(Words.of(world.space).end).sum(1)
    assert least <= int(counts.min())
    assert int(counts.max()) <= most


def test_a_rounding_that_clamps_is_given_the_estimate_and_not_words_put_in_before(
    world: World, ngrams: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(
        LengthDenoiser, "__call__", lambda self, x_t, t, x0: asked.append(t) or self.denoise(x_t, t, x0)
    )
    run(world, NgramRounding(ngrams), LengthRange(6, 6))
    assert not asked
    run(world, NgramRounding(ngrams, clamp=False), LengthRange(6, 6))
    assert len(asked) == 3


def test_back_and_refine_doubts_the_estimate_and_not_the_caption_that_it_was_rounded_to(
    world: World, ngrams: str
) -> None:
    class Asking(RenoiseSampler):
        """Walks, and asks how sure the last estimate is."""

        def sample(self, denoise, x_t, schedule, draw, on_step=None, confidence=None):
            latents = super().sample(denoise, x_t, schedule, draw, on_step, confidence)
            asked.append((confidence(latents), confidence(latents.clone())))
            return latents

    asked: list[tuple[torch.Tensor, torch.Tensor]] = []
    run(world, None, sampler=Asking(1))
    run(world, NgramRounding(ngrams), sampler=Asking(1))
    (plain, _), (behind, rounded) = asked
    assert torch.equal(behind, plain)
    assert not torch.allclose(rounded, plain)


def test_a_caption_does_not_depend_on_its_batch(world: World, ngrams: str) -> None:
    rounding = NgramRounding(ngrams)
    assert run(world, rounding, rows=slice(2, 3)).candidates[0] == run(world, rounding).candidates[2]


@pytest.mark.parametrize("clamp", [True, False])
def test_readings_of_a_sample_are_candidates(world: World, ngrams: str, clamp: bool) -> None:
    one, several = (run(world, NgramRounding(ngrams, readings=n, clamp=clamp), number=2) for n in (1, 3))
    assert torch.equal(one.latents, several.latents), "the sampler goes on from the best"
    assert [row[::3] for row in several.candidates] == one.candidates
    assert {len(row) for row in several.candidates} == {6}
    assert all(len(set(row[:3])) > 1 for row in several.candidates)


def test_where_there_are_fewer_captions_than_readings_the_best_is_there_again(ngrams: str) -> None:
    words, logits = tiny_words(1), torch.zeros(1, 2, 2)
    logits[:, :, 1] = 9.0
    found = NgramRounding(ngrams, weight=0.0, readings=12).several(logits, words)[0].tolist()
    assert found == [[0, 1], [0, 0], *[[0, 1]] * 10], "one word or none fit between [CLS] and the end of two positions"
    logits = torch.zeros(1, 4, 2)
    logits[:, :, 1] = 9.0
    found = NgramRounding(ngrams, weight=0.0, choices=1, no_repeat=0, readings=12).several(logits, words)[0].tolist()
    assert found == [[0, *[1] * n, *[0] * (3 - n)] for n in (3, 2, 1, 0)] + [[0, 1, 1, 1]] * 8


def test_captions_are_the_same_however_many_are_decided_on_at_once(
    world: World, ngrams: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounding = NgramRounding(ngrams, readings=2)
    whole = run(world, rounding)
    monkeypatch.setattr("ladic.rounding.denoiser.LOGITS", {"cpu": 1, "other": 1})
    assert run(world, rounding).candidates == whole.candidates


def test_from_counting_to_captions_on_the_command_line(cli, tmp_path: Path) -> None:
    config = write_config(tmp_path)
    wrong = cli("fit-ngrams", "-c", config, "--output", tmp_path / "n.json")
    assert error_line(wrong.stderr) == f"--output {tmp_path / 'n.json'}: the name must end in .safetensors"
    file = tmp_path / "n.safetensors"
    done = cli("fit-ngrams", "-c", config, "--output", file)
    assert done.code == 0, done.stderr
    assert f"--model.rounding.ngrams={file}" in done.stdout
    flags = ["--model.rounding=NgramRounding", f"--model.rounding.ngrams={file}", "--model.rounding.weight=2"]
    done = cli("fit", "-c", config, *flags)
    assert done.code == 0, done.stderr
    model = LatentDiffusionCaptioner.load_from_checkpoint(tmp_path / "run")
    assert isinstance(model.rounding, NgramRounding)
    assert (model.rounding.weight, model.rounding.bonus) == (2, 6)
    image = picture(tmp_path / "picture.png")
    words = ["caption", image, "--checkpoint", tmp_path / "run"]
    own = cli(*words)
    assert own.code == 0, own.stderr
    assert own.stdout == cli(*words, "--rounding", f"NgramRounding:ngrams={file},weight=2").stdout
    plain = cli(*words, "--rounding", "ArgmaxRounding:clamp=false")
    assert plain.code == 0, plain.stderr
    assert plain.stdout != own.stdout
    wrong = cli(*words, "--rounding", "NgramRounding")
    assert "`ladic components roundings NgramRounding` shows its arguments" in error_line(wrong.stderr)
    file.unlink()
    gone = cli(*words)
    assert f"ngrams='{file}': no such file; `ladic fit-ngrams -c CONFIG --output FILE` makes one" in gone.stderr


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"weight": -1.0}, "NgramRounding.weight=-1.0: need 0 or more"),
        ({"choices": 0}, "NgramRounding.choices=0: need at least 1"),
        ({"beam_size": 0}, "NgramRounding.beam_size=0: need at least 1"),
        ({"readings": 13}, "NgramRounding.readings=13: accepted are 1 to 12, the beam_size"),
        ({"no_repeat": -1}, "NgramRounding.no_repeat=-1: need 0 or more"),
        ({"ngrams": "gone.safetensors"}, "ngrams='gone.safetensors': no such file; `ladic fit-ngrams"),
        ({"ngrams": __file__}, "none of `ladic fit-ngrams`"),
    ],
)
def test_mistakes_are_named(ngrams: str, options: dict, complaint: str) -> None:
    with pytest.raises(UsageError) as raised:
        NgramRounding(**{"ngrams": ngrams, **options})
    assert complaint in str(raised.value)


def test_a_space_whose_special_positions_differ_is_refused(ngrams: str) -> None:
    space = tiny_text_space(reassign=False)
    assert isinstance(space, BertLatentSpace)
    with pytest.raises(UsageError, match="needs one latent for all special positions"):
        NgramRounding(ngrams).check(space)
