"""Templates, and blanks filled with given words kept to the letter."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_generation import IDS, World
from tiny_run import error_line, picture

from ladic.clamping import ClampedDenoiser, Given, Vocabulary
from ladic.components import BackAndRefine, CosineSchedule, DDIMSampler, DPMSolverSampler, RenoiseSampler, Sampler
from ladic.errors import UsageError
from ladic.guidance import ClassifierFreeGuidance
from ladic.infill import fill
from ladic.template import Template
from ladic.testing import tiny_text_space


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def filled(world: World, texts: list[str], sampler: Sampler, clamp: Any = "late", rows: list[int] | None = None, **kw):
    rows = list(range(len(texts))) if rows is None else rows
    return fill(
        world.tokens[rows],
        None,
        [IDS[row] for row in rows],
        [Template.parse(text) for text in texts],
        denoiser=world.denoiser,
        latent_space=world.space,
        schedule=CosineSchedule(),
        sampler=sampler,
        clamp=clamp,
        guidance=ClassifierFreeGuidance(1.0),
        **kw,
    )


WORDS = st.sampled_from(["a", "red", "Circle", "two", "dogs", "run.", "xq"])
PIECES = st.lists(st.lists(WORDS, max_size=2).map(" ".join), min_size=2, max_size=4)


@settings(max_examples=25)
@given(pieces=PIECES, clamp=st.sampled_from(["masked", "reencoded", "late"]), which=st.integers(0, 3))
def test_given_words_are_in_the_output_to_the_letter(world: World, pieces: list[str], clamp: str, which: int) -> None:
    sampler = [DDIMSampler(2), RenoiseSampler(2), DPMSolverSampler(2), BackAndRefine(DDIMSampler(2))][which]
    text = " ___ ".join(pieces)
    tokens = sum(map(len, Template.parse(text).tokens(world.space.tokenizer))) + len(pieces) - 1
    if tokens > 10:
        with pytest.raises(UsageError, match="the model's length of 12 holds 10"):
            filled(world, [text], sampler, clamp)
        return
    out = filled(world, [text], sampler, clamp, longest_blank=2)
    for filling in out.candidates[0]:
        assert len(filling.fills) == len(pieces) - 1
        assert all(filling.fills)
        rest = filling.caption
        for piece, fills in zip(pieces, [*filling.fills, ""], strict=True):
            assert rest.startswith(piece)
            rest = rest.removeprefix(piece).removeprefix(f" {fills} ")
        assert rest == ""


@torch.no_grad()
def test_a_word_before_a_blank_is_held_at_its_own_latent_where_special_positions_have_a_token() -> None:
    space = tiny_text_space(special_token=".")
    layout = Template.parse("a red ___ left of").layouts(space.tokenizer, 12, longest=1, most=9)[0]
    given = Given.of([layout], "cpu")
    noise = torch.zeros(1, 12, space.width)
    clamped = ClampedDenoiser(
        lambda x, t, p: x, given, space, CosineSchedule(), noise, "masked", Vocabulary(space)
    ).latents
    words = given.known[0] & (given.mask[0] == 1)
    words[0] = False
    inner = words.nonzero().flatten().tolist()[:-1]  # the last is [SEP]
    assert inner == [1, 2, 4, 5]
    special = space.special_latent()
    assert all(not torch.allclose(clamped[0, place], special) for place in inner)


def test_counted_blanks_have_so_many_words(world: World) -> None:
    out = filled(world, ["a ___{3} on ___{1}"], DDIMSampler(2))
    (filling,) = out.candidates[0]  # one layout
    assert [len(text.split()) for text in filling.fills] == [3, 1]


def test_every_length_of_free_blanks_is_tried(world: World) -> None:
    template = Template.parse("___ red ___")
    layouts = template.layouts(world.space.tokenizer, 12, longest=3, most=99)
    assert [tuple(len(blank) for blank in layout.blanks) for layout in layouts] == [
        (1, 1), (1, 2), (2, 1), (1, 3), (2, 2), (3, 1), (2, 3), (3, 2), (3, 3),
    ]  # fmt: skip
    assert len(template.layouts(world.space.tokenizer, 12, longest=3, most=4)) == 4
    for layout in layouts:
        assert len(layout.ids) == len(layout.mask) == len(layout.known) == len(layout.begins) == 12
        inside = [place for blank in layout.blanks for place in blank]
        assert [place for place, known in enumerate(layout.known) if not known] == inside
        assert layout.begins == [place in [blank[0] for blank in layout.blanks] for place in range(12)]
    out = filled(world, ["___ red ___"], DDIMSampler(1), longest_blank=2, num_candidates=3)
    assert len(out.candidates[0]) == 4 * 3


@pytest.mark.parametrize("clamp", ["masked", "reencoded", "late"])
def test_what_given_positions_are_held_at(world: World, clamp: Any) -> None:
    """The network never sees anything else at given positions, nor does the sampler."""
    space, schedule = world.space, CosineSchedule()
    layout = Template.parse("a red ___ run").layouts(space.tokenizer, 12, longest=1)[0]
    known = Given.of([layout], "cpu")
    seen, noise = [], torch.randn(1, 12, 32)

    def denoise(x_t, t, x0_prev):
        seen.append((x_t, float(t[0])))
        return torch.tanh(x_t) * 2

    clamped = ClampedDenoiser(denoise, known, space, schedule, noise, clamp, Vocabulary(space))
    masked = clamped.latents
    # Without the blank in the attention: what stands in it can't matter.
    other = known.ids.clone()
    other[~known.known] = space.tokenizer.convert_tokens_to_ids("blue")
    torch.testing.assert_close(space.encode(other, known.mask * known.known)[known.known], masked[known.known])
    for t in (0.9, 0.4):
        x_t = torch.randn(1, 12, 32)
        before = clamped.latents
        x0 = clamped(x_t, torch.full((1,), t), None)
        sent, _ = seen[-1]
        time = torch.tensor([t]).view(1, 1, 1)
        expected = schedule.alpha_bar(time).sqrt() * before + schedule.sigma(time) * noise
        torch.testing.assert_close(sent[known.known], expected[known.known])
        torch.testing.assert_close(sent[~known.known], x_t[~known.known])
        torch.testing.assert_close(x0[~known.known], (torch.tanh(sent) * 2)[~known.known])
        renewed = clamp == "reencoded" or (clamp == "late" and t <= 0.5)
        if renewed:
            held = space.encode(clamped.ids(x0), known.mask)
            assert not torch.allclose(held[known.known], masked[known.known])
            assert int((clamped.ids(x0) != known.ids).sum()) == 1
        else:
            held = masked
        torch.testing.assert_close(x0[known.known], held[known.known], atol=1e-5, rtol=1e-4)


def test_a_filling_does_not_depend_on_its_batch(world: World) -> None:
    texts = ["a ___ red", "___ dogs ___{2}", "two ___"]
    together = filled(world, texts, RenoiseSampler(3))
    for row, text in enumerate(texts):
        alone = filled(world, [text], RenoiseSampler(3), rows=[row])
        assert alone.candidates[0] == together.candidates[row]


def test_only_words_fill_blanks() -> None:
    space = tiny_text_space()
    vocabulary = Vocabulary(space)
    begins = torch.tensor([[True, False]])
    open_ = vocabulary.restrict(torch.zeros(1, 2, space.vocabulary_size), begins)[0].isfinite()
    names = space.tokenizer.convert_ids_to_tokens(list(range(space.vocabulary_size)))
    first = {name for name, allowed in zip(names, open_[0].tolist(), strict=True) if allowed}
    second = {name for name, allowed in zip(names, open_[1].tolist(), strict=True) if allowed}
    assert "red" in first
    assert "##a" not in first
    assert second - first == {name for name in names if name.startswith("##")}
    assert not {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "."} & second


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a red circle", "'a red circle': no blank in it; write ___ for a blank"),
        ("a __ circle", "no blank in it"),
        ("a ___{x}", r"'___\{x\}' is no blank"),
        ("a ___{0}", r"'___\{0\}' is no blank"),
        ("a 犬 ___", "the text model doesn't know '犬'"),
        (
            "a a a a a a a a a a ___",
            "10 tokens are given and the blanks take 1 or more; the model's length of 12 holds 10",
        ),
        ("___{11}", "0 tokens are given and the blanks take 11 or more"),
    ],
)
def test_bad_templates_are_one_line(world: World, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Template.parse(text).layouts(world.space.tokenizer, 12)


def test_the_command(cli, trained: Path, tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png")
    other = picture(tmp_path / "b.png", "green")
    done = cli("infill", file, "A ___ Circle", "two ___{1} run", f"--checkpoint={trained}", "--longest-blank=2")
    assert done.code == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("A ")
    assert first.endswith(" Circle")
    assert len(second.split()) == 3
    (tmp_path / "batch.json").write_text(
        json.dumps([{"image": str(file), "template": "A ___ Circle"}, {"image": str(other), "template": "___ red"}])
    )
    batch = cli("infill", "--batch", tmp_path / "batch.json", f"--checkpoint={trained}", "--longest-blank=2", "--json")
    assert batch.code == 0, batch.stderr
    records = [json.loads(line) for line in batch.stdout.splitlines()]
    assert records[0]["caption"] == first
    assert records[1]["caption"].endswith(" red")
    assert records[0]["fills"] == [first.removeprefix("A ").removesuffix(" Circle")]
    assert records[0]["nfe"] == 4  # two steps, guided
    assert len(records[0]["candidates"]) == len(records[0]["scores"]) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{a}"], 'give IMAGE and "a ___ on a ___", or --batch FILE'),
        (["{a}", "a dog"], "'a dog': no blank in it"),
        (["{a}", "___{20}"], "the model's length of 12 holds 10"),
        (["{tmp}/gone.png", "a ___"], "gone.png': no such file"),
        (["--batch", "{tmp}/gone.json"], "gone.json: No such file"),
        (["--batch", "{a}"], "not JSON"),
        (["--batch", "{tmp}/empty.json"], "accepted is a list"),
        (["--batch", "{tmp}/odd.json"], 'entry 0 (from 0) has no "image" and "template" texts'),
        (["{a}", "a ___", "--longest-blank=0"], "--longest-blank 0: need at least 1"),
        (["{a}", "a ___", "--clamp=hard"], "--clamp: invalid choice: 'hard'"),
    ],
)
def test_mistakes_are_one_line(cli, trained: Path, tmp_path: Path, words: list[str], message: str) -> None:
    (tmp_path / "empty.json").write_text("[]")
    (tmp_path / "odd.json").write_text('[{"image": 3}]')
    file = picture(tmp_path / "a.png")
    done = cli("infill", *(w.replace("{a}", str(file)).replace("{tmp}", str(tmp_path)) for w in words),
               f"--checkpoint={trained}")  # fmt: skip
    assert (done.code, done.stdout) == (2, "")
    assert message in error_line(done.stderr)
