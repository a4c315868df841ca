"""Captions held in a range of lengths."""

from argparse import Namespace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_generation import IDS, World
from tiny_run import BERT, picture, tiny_config, write_config

from ladic import ClassifierFreeGuidance
from ladic.cli.fit_space import fit
from ladic.components import BackAndRefine, CosineSchedule, DDIMSampler, RenoiseSampler, Sampler
from ladic.components.latent_spaces.words import Words
from ladic.errors import UsageError
from ladic.generation import Generation, generate
from ladic.length_control import LengthDenoiser, LengthRange
from ladic.testing import tiny_text_space


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@torch.no_grad()
def run(world: World, length: LengthRange | None, sampler: Sampler, rows: int = 3) -> Generation:
    return generate(
        world.tokens[:rows],
        None,
        IDS[:rows],
        denoiser=world.denoiser,
        latent_space=world.space,
        schedule=CosineSchedule(),
        sampler=sampler,
        guidance=ClassifierFreeGuidance(1.0),
        length=length,
    )


def said(world: World, length: LengthRange, sampler: Sampler) -> list[int]:
    """Tokens of each caption."""
    latents = run(world, length, sampler).latents
    with torch.no_grad():
        indices = LengthDenoiser(lambda x, t, p: x, world.space, length).indices(latents)
    assert bool((indices[:, 0] == world.space.tokenizer.pad_token_id).all())
    special = torch.tensor(world.space.tokenizer.all_special_ids)
    return (~torch.isin(world.space.head.vocabulary[indices], special))[:, 1:].sum(1).tolist()


@settings(max_examples=20)
@given(least=st.integers(0, 10), more=st.integers(0, 10), which=st.integers(0, 2))
def test_every_caption_is_in_the_range(world: World, least: int, more: int, which: int) -> None:
    sampler = [DDIMSampler(2), RenoiseSampler(3), BackAndRefine(DDIMSampler(2))][which]
    most = min(10, max(1, least + more))
    for count in said(world, LengthRange(least, most), sampler):
        assert least <= count <= most


@torch.no_grad()
def test_an_estimate_in_the_range_is_left_alone_and_one_outside_is_changed_where_it_must_be() -> None:
    space = tiny_text_space()
    tokens = space.tokenize(["two small dogs run", "a red circle"])
    x0 = space.encode(tokens.input_ids, tokens.attention_mask)

    class Reading(LengthDenoiser):
        """Reads latents as what they were made of, so that the random head has no say."""

        def _ends(self, logits):
            return torch.tensor([4, 3])

    def answer(x_t, t, previous):
        return x0

    t = torch.full((2,), 0.5)
    left = Reading(answer, space, LengthRange(2, 6))(x0, t, None)
    torch.testing.assert_close(left[:, 1:5][0], x0[0, 1:5])
    torch.testing.assert_close(left[:, 5:], x0[:, 5:])
    cut = Reading(answer, space, LengthRange(0, 2))(x0, t, None)
    torch.testing.assert_close(cut[:, 1:3], x0[:, 1:3])
    assert bool((cut[:, 3:] == 0).all()), "beyond the range lies the latent of special positions"
    grown = Reading(answer, space, LengthRange(6))(x0, t, None)
    for row, end in enumerate((4, 3)):
        torch.testing.assert_close(grown[row, : end + 1], x0[row, : end + 1])
        assert bool((grown[row, end + 1 : 7] != 0).any(-1).all()), "words are put in"
        torch.testing.assert_close(grown[row, 7:], x0[row, 7:])


@torch.no_grad()
def test_behind_a_range_lies_what_the_space_has_there() -> None:
    space = tiny_text_space(reassign=False)
    tokens = space.tokenize(["two small dogs run"])
    x0 = space.encode(tokens.input_ids, tokens.attention_mask)

    class Reading(LengthDenoiser):
        def _ends(self, logits):
            return torch.tensor([4])

        def _indices(self, logits):
            return self.space.head.index_of(tokens.input_ids, unknown=0)

    cut = Reading(lambda *_: x0, space, LengthRange(0, 2))(x0, torch.full((1,), 0.5), None)
    shorter = space.tokenize(["two small"])
    torch.testing.assert_close(cut[:, 3:], space.encode(shorter.input_ids, shorter.attention_mask)[:, 3:])
    torch.testing.assert_close(cut[:, :3], x0[:, :3])


def test_a_head_keeps_the_word_that_ends_captions_and_one_without_it_is_refused() -> None:
    space = tiny_text_space(special_token=".")
    options = Namespace(specials="drop", batch_size=4, restrict_vocabulary=True, head_steps=0)
    fit(space, ["a red circle"] * 4, options)
    dot = space.tokenizer.convert_tokens_to_ids(".")
    assert int(space.head.vocabulary[Words.of(space).end]) == dot
    space.head.restrict(space.head.vocabulary[space.head.vocabulary != dot])
    with pytest.raises(UsageError, match=r"its head has no word '\.', which ends its captions"):
        Words.of(space)


def test_a_range_of_all_lengths_changes_nothing_but_the_place_behind_it(world: World) -> None:
    free, all_of_it = run(world, None, DDIMSampler(3)), run(world, LengthRange(0, 10), DDIMSampler(3))
    assert free.nfe == all_of_it.nfe == 3
    assert (free.latents - all_of_it.latents)[:, :-1].abs().max() < 0.02 < free.latents[:, -1].abs().max()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LengthRange(5, 3), "length of 5 to 3 tokens: need 0 <= least <= most"),
        (lambda: LengthRange(-1), "length of -1 to any number"),
        (lambda: LengthRange(0, 0), "most >= 1"),
        (lambda: LengthRange(11).check(12), "length of 11 tokens: the model's length is 12, which holds 10"),
        (lambda: LengthRange(2, 60).check(24), r"train with --model\.latent_space\.length=62"),
    ],
)
def test_impossible_ranges_are_refused(make, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()


def test_paragraphs_of_128_tokens(cli, tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    space = config["model"]["latent_space"]["init_args"]
    space |= {"config": {**BERT, "max_position_embeddings": 160}, "length": 130}
    config["data"]["init_args"]["paragraphs"] = True
    done = cli("fit", "-c", write_config(tmp_path, config), "--trainer.max_steps=1")
    assert done.code == 0, done.stderr
    words = ["caption", picture(tmp_path / "a.png"), f"--checkpoint={tmp_path / 'run'}", "--num-steps=1"]
    free, long = cli(*words), cli(*words, "--min-length=100")
    assert (free.code, long.code) == (0, 0), long.stderr
    assert len(long.stdout.replace(" ", "")) > 100  # pieces of a character and more
    wrong = cli(*words, "--length=129")
    assert (wrong.code, "the model's length is 130, which holds 128" in wrong.stderr) == (2, True)
