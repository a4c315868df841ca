"""A caption depends on its image, its seed and the options alone."""

import hashlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ladic.components import CosineSchedule, CrossAttentionDenoiser, DDIMSampler, RenoiseSampler, Sampler
from ladic.generation import Generation, SeededNoise, generate, noise_seed
from ladic.guidance import ClassifierFreeGuidance
from ladic.testing import tiny_text_space

IDS: list[int | str] = [7, "b.jpg", 391895, "COCO_val2014_000000391895.jpg", "ä/é.png"]


class World:
    """One tiny captioner's parts and five images' tokens."""

    def __init__(self) -> None:
        torch.manual_seed(5)
        self.space = tiny_text_space()
        self.denoiser = CrossAttentionDenoiser(
            width=32, length=12, cond_width=6, hidden_width=32, num_heads=2, num_layers=2
        ).eval()
        with torch.no_grad():  # random weights barely look at the image: make them
            for block in self.denoiser.blocks:
                block.cross_attention.out.weight.mul_(20)  # type: ignore[union-attr, operator]
        self.tokens = torch.randn(len(IDS), 4, 6)

    @torch.no_grad()
    def run(
        self, rows: list[int], sampler: Sampler, candidates: int = 1, seed: int = 0, scale: float = 2.0
    ) -> Generation:
        return generate(
            self.tokens[rows],
            self.denoiser.context(torch.zeros(1, 4, 6)),
            [IDS[row] for row in rows],
            denoiser=self.denoiser,
            latent_space=self.space,
            schedule=CosineSchedule(),
            sampler=sampler,
            guidance=ClassifierFreeGuidance(scale),
            num_candidates=candidates,
            seed=seed,
        )


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@settings(max_examples=15, deadline=None)
@given(
    rows=st.lists(st.integers(0, len(IDS) - 1), min_size=1, max_size=5, unique=True),
    eta=st.sampled_from([0.0, 1.0, None]),
    candidates=st.integers(1, 2),
)
def test_a_row_does_not_depend_on_its_batch_nor_on_its_place_in_it(
    world: World, rows: list[int], eta: float | None, candidates: int
) -> None:
    sampler = RenoiseSampler(3) if eta is None else DDIMSampler(3, eta)
    together = world.run(rows, sampler, candidates)
    for place, row in enumerate(rows):
        alone = world.run([row], sampler, candidates)
        mine = together.latents[place * candidates : (place + 1) * candidates]
        torch.testing.assert_close(alone.latents, mine, atol=1e-5, rtol=0)
        assert alone.candidates == [together.candidates[place]]


def test_the_same_seed_gives_the_same_bits_and_another_seed_another_caption(world: World) -> None:
    first, again, other = (world.run([0, 1], DDIMSampler(3), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.latents, again.latents)
    assert first.candidates == again.candidates
    assert (first.latents - other.latents).abs().amax((1, 2)).min() > 1e-2


def test_two_images_with_equal_tokens_differ_by_their_ids_alone(world: World) -> None:
    with torch.no_grad():
        kept = world.tokens.clone()
        world.tokens[1] = world.tokens[0]
        latents = world.run([0, 1], DDIMSampler(3)).latents
        world.tokens.copy_(kept)
    assert (latents[0] - latents[1]).abs().max() > 1e-2


def test_captions_speak_of_their_image(world: World) -> None:
    kept = world.tokens[0].clone()
    before = world.run([0], DDIMSampler(3)).latents
    world.tokens[0] = -kept
    after = world.run([0], DDIMSampler(3)).latents
    world.tokens[0] = kept
    assert (before - after).abs().max() > 1e-2


def test_candidates_come_from_distinct_noise_and_the_first_is_the_only_one_of_a_single_run(world: World) -> None:
    three, one = world.run([0, 1], DDIMSampler(3), candidates=3), world.run([0, 1], DDIMSampler(3))
    latents = three.latents.unflatten(0, (2, 3))
    for i, j in [(0, 1), (0, 2), (1, 2)]:
        assert (latents[:, i] - latents[:, j]).abs().amax((1, 2)).min() > 1e-2
    torch.testing.assert_close(latents[:, 0], one.latents, atol=1e-5, rtol=0)
    assert [len(captions) for captions in three.candidates] == [3, 3]
    assert [captions[0] for captions in three.candidates] == [captions[0] for captions in one.candidates]


def test_evaluations_are_reported(world: World) -> None:
    assert world.run([0], DDIMSampler(3)).nfe == 6
    assert world.run([0], DDIMSampler(3), candidates=2, scale=1.0).nfe == 3


def test_nothing_is_drawn_from_the_global_generator(world: World) -> None:
    before = torch.get_rng_state()
    world.run([0, 1], RenoiseSampler(3))
    assert torch.equal(before, torch.get_rng_state())


def test_seeds_are_pinned() -> None:
    assert noise_seed(0, "a.jpg") == PINNED["a.jpg"]
    assert noise_seed(3, 391895, 2) == PINNED["391895"]
    digest = hashlib.blake2b(b"0/a.jpg/0", digest_size=8).digest()
    assert noise_seed(0, "a.jpg") == int.from_bytes(digest, "big") >> 1
    assert SeededNoise([noise_seed(0, "a.jpg")], (2,)).draw().flatten().tolist() == pytest.approx(
        PINNED_NOISE, abs=1e-4
    )


PINNED = {"a.jpg": 922924622413358737, "391895": 7441162186503734133}
PINNED_NOISE = [-0.0113, 1.9515]


@given(
    st.lists(
        st.tuples(st.integers(0, 99), st.integers(0, 10**6), st.integers(0, 9)), min_size=2, max_size=20, unique=True
    )
)
def test_seeds_fit_torch_and_differ(keys: list[tuple[int, int, int]]) -> None:
    seeds = [noise_seed(*key) for key in keys]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("inference", [False, True])
def test_threads_draw_the_same_noise(inference: bool) -> None:
    alone, together = (SeededNoise([3, 1, 4, 1, 5], (6, 7)) for _ in range(2))
    together.threads = 3
    with torch.inference_mode(inference):
        for _ in range(2):
            drawn = alone.draw()
            assert torch.equal(drawn, together.draw())
            assert drawn.std() > 0.5


def test_noise_rows_have_generators_of_their_own_and_go_on_drawing() -> None:
    def rows(seeds: list[int]) -> list[Tensor]:
        noise = SeededNoise(seeds, (50, 40))
        return [noise.draw(), noise.draw()]

    (first, second), (swapped, _) = rows([1, 2]), rows([2, 1])
    assert torch.equal(first, swapped.flip(0))
    assert (first - second).abs().max() > 1, "the second draw is fresh"
    both = torch.stack([first, second])
    assert both.mean().item() == pytest.approx(0, abs=0.05)
    assert both.std().item() == pytest.approx(1, abs=0.05)
