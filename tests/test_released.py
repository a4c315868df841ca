"""Our components against the released LaDiC in NumPy float64, on random weights.

``released_numpy.py`` is a transcription of its arithmetic; numbers that it gave itself are in
test_released_numbers.py. The tolerance is 2e-5 in float32, of values that go to about 4.
"""

import random
from typing import Any

import numpy as np
import pytest
import released_numpy as R
import torch
from released_case import CAPTIONS, Case, close, doubles, sample
from released_state import FULL, released_state, tiny_state, write_vocabulary
from torch import Tensor

from ladic.captioner import LatentDiffusionCaptioner
from ladic.components import CosineSchedule, DilatedSchedule, LinearSchedule
from ladic.components.denoisers.layers import sinusoids, step_numbers
from ladic.conversion import released_captioner
from ladic.draws import StepDraws, released_draws


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_vocabulary(tmp_path_factory.mktemp("words") / "vocab.txt"))


@pytest.fixture(scope="module", params=[True, False], ids=["with time norm", "without"])
def ours(request: pytest.FixtureRequest, vocabulary: str) -> Case:
    generator = torch.Generator().manual_seed(1)
    mean, std = torch.randn(16, generator=generator), 0.5 + torch.rand(16, generator=generator)
    return Case(tiny_state(int(request.param), request.param), vocabulary, mean, std)


@pytest.mark.parametrize("factor", [1.0, 4.0])
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_noising_at_every_step_is_the_formula(name: str, factor: float) -> None:
    table = R.linear_table() if name == "linear" else R.cosine_table()
    table = table.astype(np.float32).astype(np.float64)  # as it is kept: near t = 0 the noise is a small difference
    inner = LinearSchedule(num_steps=1000) if name == "linear" else CosineSchedule(floor=0, num_steps=1000)
    schedule = DilatedSchedule(inner, training=factor)
    steps = torch.arange(1000)
    close(schedule.alpha_bar(steps / 999), table, atol=1e-6)
    x, noise = torch.randn(1000, 2, 3), torch.randn(1000, 2, 3)
    theirs = R.diffuse(*doubles(x), steps.numpy(), *doubles(noise), factor, table)
    close(schedule.add_training_noise(x, steps / 999, noise), theirs)
    close(schedule.add_noise(x, steps / 999, noise), R.diffuse(*doubles(x), steps.numpy(), *doubles(noise), 1, table))


def test_training_visits_every_entry_of_a_table_with_equal_probability() -> None:
    draws = (torch.arange(100_000) + 0.5) / 100_000
    times = LinearSchedule(num_steps=1000).training_times(draws)
    assert step_numbers(times, 1000).long().bincount().tolist() == [100] * 1000
    assert torch.equal(CosineSchedule().training_times(draws), draws)
    assert float(LinearSchedule(num_steps=10).training_times(torch.tensor([1 - 2**-24]))) == 1


def test_the_time_table_is_told_whole_steps() -> None:
    steps = np.array([0, 1, 5, 499, 998, 999])
    told = step_numbers(torch.from_numpy(steps / 999).float(), 1000)
    assert told.tolist() == steps.tolist()
    # 999 times a frequency near 1, in float32, is off by up to 3e-5, in theirs as in ours.
    for exact in (True, False):
        close(sinusoids(told, 64, exact=exact), R.time_table(64, steps), atol=1e-4)


@torch.no_grad()
def test_image_tokens(ours: Case) -> None:
    images = torch.randn(3, 3, 16, 16)
    close(ours.model.image_encoder(images), R.vit(ours.weights, *doubles(images), 4))
    nothing = ours.model.null_tokens(ours.model.image_encoder(images))
    close(nothing, R.vit(ours.weights, np.zeros((1, 3, 16, 16)), 4))


@torch.no_grad()
def test_target_latents_and_targets(ours: Case) -> None:
    space = ours.model.latent_space
    tokens = space.tokenize(CAPTIONS)
    ids, mask = tokens.input_ids.numpy(), tokens.attention_mask.numpy()
    assert ids[0, 0] == 101
    assert mask.sum(1).tolist()[2:5:2] == [2, 24]  # the empty caption, and one that fills every position
    theirs = R.target_latent(ours.weights, ids, mask, ours.mean, ours.std, 4)
    close(space.encode(tokens.input_ids, tokens.attention_mask), theirs)
    expected = np.where(np.isin(ids, [0, 101, 102]), 1012, ids)
    np.testing.assert_array_equal(space.targets(tokens.input_ids, tokens.attention_mask).numpy(), expected)


@torch.no_grad()
def test_a_special_token_in_the_middle_keeps_its_own_latent(ours: Case) -> None:
    space = ours.model.latent_space
    tokens = space.tokenize(["a [SEP] dog"])
    assert tokens.input_ids[0, 2] == 102
    theirs = R.target_latent(
        ours.weights, tokens.input_ids.numpy(), tokens.attention_mask.numpy(), ours.mean, ours.std, 4
    )
    close(space.encode(tokens.input_ids, tokens.attention_mask), theirs)
    assert space.targets(tokens.input_ids, tokens.attention_mask)[0, 2] == 1012


@torch.no_grad()
def test_the_diffuser(ours: Case) -> None:
    images, x_t, x0_prev = torch.randn(3, 3, 16, 16), torch.randn(3, 24, 16), torch.randn(3, 24, 16)
    steps = np.array([4, 504, 999])
    denoiser, tokens = ours.model.denoiser, ours.model.image_encoder(images)
    x0 = denoiser(x_t, torch.from_numpy(steps / 999).float(), denoiser.context(tokens), x0_prev)
    x = np.concatenate(doubles(x_t, x0_prev), -1)
    close(x0, R.diffuser(ours.weights, R.vit(ours.weights, *doubles(images), 4), x, steps, 8))
    first = denoiser(x_t, torch.ones(3), denoiser.context(tokens), None)
    x = np.concatenate([*doubles(x_t), np.zeros_like(x_t)], -1)
    close(first, R.diffuser(ours.weights, R.vit(ours.weights, *doubles(images), 4), x, np.array([999] * 3), 8))


def training_batch(model: LatentDiffusionCaptioner, rows: int) -> dict[str, Any]:
    tokens = model.latent_space.tokenize((CAPTIONS * rows)[:rows])
    return {
        "image": torch.randn(rows, 3, 16, 16),
        "image_id": list(range(rows)),
        "input_ids": tokens.input_ids,
        "attention_mask": tokens.attention_mask,
    }


@pytest.mark.parametrize("coin", [False, True])
@torch.no_grad()
def test_the_losses_of_a_training_step_on_given_draws(ours: Case, coin: bool) -> None:
    """D1 to D3, dropout off: noise times four, dropped images as zero pixels, one pass or two."""
    model, w = ours.model, ours.weights
    batch = training_batch(model, 6)
    steps, dropped = np.array([0, 1, 300, 500, 998, 999]), torch.tensor([False, True] * 3)
    noise = torch.randn(6, 24, 16)
    draws = StepDraws(dropped, torch.from_numpy(steps / 999).float(), noise, torch.arange(6 if coin else 0))
    model.train()
    for module in model.modules():
        module.training = module is model  # the step of training, without dropout anywhere
    got = model.losses(batch, draws)  # type: ignore[arg-type]
    model.eval()

    ids, mask = batch["input_ids"].numpy(), batch["attention_mask"].numpy()
    x0 = R.target_latent(w, ids, mask, ours.mean, ours.std, 4)
    x_t = R.diffuse(x0, steps, *doubles(noise), factor=4)
    tokens = R.vit(w, batch["image"].double().numpy() * ~dropped.numpy()[:, None, None, None], 4)
    predicted = np.zeros_like(x_t)
    for _ in range(1 + coin):
        predicted = R.diffuser(w, tokens, np.concatenate([x_t, predicted], -1), steps, 8)
    on_latents, on_words = R.losses(w, predicted, x0, ids, ours.mean, ours.std)
    close(got["latent_loss"], on_latents)
    close(0.2 * got["caption_loss"], on_words)
    close(got["loss"], on_latents + on_words)


@pytest.mark.parametrize(("stride", "evaluations"), [(200, 5), (333, 3), (30, 34), (34, 30)])
@torch.no_grad()
def test_a_whole_generation_on_given_noise(ours: Case, stride: int, evaluations: int) -> None:
    images, noises = torch.randn(2, 3, 16, 16), list(torch.randn(40, 2, 24, 16))
    estimates: list[Tensor] = []
    final = sample(ours.model, images, noises, stride, estimates)
    theirs = R.generate(ours.weights, *doubles(images), doubles(*noises), stride, 4, 8)
    assert len(estimates) == len(theirs) == evaluations
    # An error grows from step to step; 34 of them, guided, take it to this.
    for mine, expected in zip(estimates, theirs, strict=True):
        close(mine, expected, atol=2e-5 if evaluations <= 5 else 2e-4)
    assert torch.equal(final, estimates[-1])


@torch.no_grad()
def test_every_parameter_of_the_released_model_has_a_place(ours: Case) -> None:
    named = {key for keys in ours.dropped.values() for key in keys}
    assert all(key.startswith(("space_decoder.", "lm_head.")) or "embeddings" in key for key in named)
    numbers = sum(value.size for key, value in ours.weights.items() if key not in named)
    assert sum(parameter.numel() for parameter in ours.model.parameters()) == numbers


@pytest.mark.parametrize("time_norm", [True, False])
def test_the_full_model_has_the_released_numbers_of_parameters(vocabulary: str, time_norm: bool) -> None:
    """BERT-base, ViT-B/16 and the 1536-wide diffuser, as tensors without storage: millions by part (section G)."""
    with torch.device("meta"):
        state = released_state(lambda shape, scale, mean: torch.empty(shape), FULL, time_norm)
        model, dropped = released_captioner(state, torch.empty(768), torch.empty(768), tokenizer=vocabulary)
    assert len(state) == (783 if time_norm else 781)
    total = sum(value.numel() for key, value in state.items() if not key.endswith(("position_ids", "predictions.bias")))
    assert millions(total) == 668.6

    def count(module: torch.nn.Module, trained: bool = False) -> int:
        return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)

    head = count(model.latent_space.head)
    assert millions(count(model.image_encoder)) == 85.8
    assert millions(count(model.latent_space) - head) == 66.4
    assert millions(head) == 24.1
    assert millions(count(model.denoiser)) == 312.5
    assert count(model.denoiser) == 312_529_920 + (3072 if time_norm else 0)
    assert millions(count(model, trained=True)) == 336.6
    dead = {reason: sum(state[key].numel() for key in keys) for reason, keys in dropped.items()}
    assert [millions(numbers) for numbers in sorted(dead.values())] == [0.0, 0.0, 46.9, 133.0]


def millions(numbers: int) -> float:
    return round(numbers / 1e6, 1)


def test_draws_in_the_released_order() -> None:
    for seed in range(4):
        torch.manual_seed(seed)
        random.seed(seed)
        draws = released_draws(5, 3, 2)
        torch.manual_seed(seed)
        random.seed(seed)
        steps = torch.randint(0, 1000, size=(5,))
        noise, _ = torch.normal(0, 1, (5, 3, 2)), torch.normal(0, 1, (5, 3, 2))
        keep = torch.rand(5) > 0.1
        assert torch.equal(step_numbers(draws.times, 1000), steps.float())
        assert torch.equal(draws.noise, noise)
        assert torch.equal(~draws.dropped, keep)
        assert len(draws.conditioned) == (5 if random.random() > 0.5 else 0)
