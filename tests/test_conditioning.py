"""What conditions the denoiser beside the noisy latent: the image or none, and its own earlier estimate."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_captioner import Watching, evaluation_batch, fit, model, training_batch, watched

from ladic.components import (
    ConvEncoder,
)
from ladic.components.denoisers.base import Context
from ladic.draws import BatchDraws
from ladic.guidance import ClassifierFreeGuidance


def test_dropped_images_are_replaced_by_the_learned_null_token() -> None:
    captioner, denoiser = watched(drop_image=1.0)
    captioner.train()
    captioner.losses(training_batch(captioner))["loss"].backward()
    assert torch.equal(denoiser.tokens[0], captioner.null_token.detach().expand(4, 16, -1))
    assert captioner.null_token.grad is not None
    assert captioner.null_token.grad.abs().sum() > 0, "it is learned"


def test_a_null_token_that_no_loss_sees_is_no_weight_to_be_trained() -> None:
    captioner = model(drop_image=0.0).train()
    captioner.losses(training_batch(captioner))["loss"].backward()
    lacking = [name for name, weight in captioner.named_parameters() if weight.requires_grad and weight.grad is None]
    assert lacking == [], "several processes wait for every gradient"


def test_a_captioner_that_was_loaded_trains_in_training_mode(tmp_path: Path) -> None:
    captioner, denoiser = watched(drop_image=1.0)
    fit(captioner.eval(), tmp_path)
    null = captioner.null_token.detach()
    assert not captioner.image_encoder.training, "what is frozen stays as it is"
    assert captioner.training
    assert all(len(tokens.unique(dim=1)[0]) == 1 for tokens in denoiser.tokens), "every image was dropped"
    assert null.abs().sum() > 0, "and the token learned"


def test_images_are_dropped_sample_by_sample_and_only_in_training() -> None:
    captioner, denoiser = watched(drop_image=0.5)
    batch = training_batch(captioner)
    null = captioner.null_token.detach().expand(1, 16, -1)[0]
    captioner.train()
    dropped = 0
    for _ in range(40):
        captioner.losses(batch)
        rows = [torch.equal(row, null) for row in denoiser.tokens[-1]]
        tokens = captioner.image_encoder(batch["image"])
        assert all(
            gone or torch.equal(row, own) for gone, row, own in zip(rows, denoiser.tokens[-1], tokens, strict=True)
        )
        dropped += sum(rows)
    assert 50 < dropped < 110, "about half of 160"
    captioner.eval()
    for _ in range(5):
        captioner.losses(batch)
        assert not any(torch.equal(row, null) for row in denoiser.tokens[-1])


def test_guidance_leaves_the_image_out_by_the_null_token() -> None:
    captioner, denoiser = watched(guidance=ClassifierFreeGuidance(2.0))
    captioner.eval()
    captioner.generate(evaluation_batch(captioner))
    assert [len(tokens) for tokens in denoiser.tokens] == [1, 4]
    assert torch.equal(denoiser.tokens[0], captioner.null_token.detach()), "one of its equal tokens is all of it"


def test_rows_that_are_copied_at_once_stay_within_their_bytes() -> None:
    context = Context((torch.zeros(3, 4, 5), torch.zeros(3, 2, dtype=torch.float64)))  # 96 bytes a row
    assert [context.rows_at_once(8, most) for most in (95, 96, 4 * 96 + 95, 2**30)] == [1, 1, 4, 8]


def test_without_self_conditioning_no_estimate_is_ever_fed_back() -> None:
    captioner, denoiser = watched(self_conditioning=0.0)
    captioner.train().losses(training_batch(captioner))
    assert denoiser.earlier == [None], "and no second pass is spent in training"
    captioner.eval().generate(evaluation_batch(captioner))
    assert denoiser.earlier == [None] * 4


@pytest.mark.parametrize(("share", "rows"), [(0.5, 2), (1.0, 4)])
def test_self_conditioning_feeds_an_estimate_to_its_share_of_the_samples(share: float, rows: int) -> None:
    captioner, denoiser = watched(self_conditioning=share)
    captioner.train().losses(training_batch(captioner))
    first, fed = denoiser.earlier
    assert first is None
    assert fed is not None
    assert not fed.requires_grad
    assert int((fed.abs().sum((1, 2)) > 0).sum()) == rows
    captioner.eval().generate(evaluation_batch(captioner))
    sampled = denoiser.earlier[2:]
    assert [bool(estimate is not None and estimate.any()) for estimate in sampled] == [False, True, True]


def test_what_an_estimate_without_gradients_leaves_behind_takes_no_gradient_from_the_step() -> None:
    captioner = model(self_conditioning=1.0).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = captioner.losses(training_batch(captioner))["loss"]
    loss.backward()
    assert [name for name, weight in captioner.denoiser.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize(("coin", "counts"), [("share", {2}), ("sample", {0, 1, 2, 3, 4}), ("batch", {0, 4})])
def test_the_coin_says_how_the_share_is_drawn(coin: Any, counts: set[int]) -> None:
    captioner = model(self_conditioning=0.5, self_conditioning_coin=coin).train()
    fed = []
    for seed in range(60):
        draws = BatchDraws(4, "cpu", torch.Generator().manual_seed(seed))
        fed.append(len(captioner._step_draws(draws, torch.zeros(4, 12, 32)).conditioned))
    assert set(fed) == counts
    assert 1.4 < sum(fed) / len(fed) < 2.6, "a half of four on average"


@pytest.mark.parametrize(("rows", "share"), [(1, 0.5), (4, 0.1), (4, 0.9), (3, 0.5)])
def test_a_share_that_is_no_whole_number_of_rows_is_kept_on_average(rows: int, share: float) -> None:
    counts = [
        len(BatchDraws(rows, "cpu", torch.Generator().manual_seed(seed)).conditioned(share, "share"))
        for seed in range(400)
    ]
    assert set(counts) == {int(rows * share), int(rows * share) + 1}
    assert sum(counts) / len(counts) == pytest.approx(rows * share, abs=0.1)


@pytest.mark.parametrize("coin", ["share", "sample", "batch"])
@pytest.mark.parametrize("rows_of_all", [6, 10])
def test_ranks_throw_the_coins_of_one_process(coin: Any, rows_of_all: int) -> None:
    def rows(rank: int, world_size: int) -> list[int]:
        draws = BatchDraws(rows_of_all // world_size, "cpu", torch.Generator().manual_seed(3), rank, world_size)
        return draws.conditioned(0.45, coin).tolist()

    assert sorted([2 * i for i in rows(0, 2)] + [2 * i + 1 for i in rows(1, 2)]) == rows(0, 1)


def test_a_picture_of_zeros_stands_for_no_image() -> None:
    captioner = model(Watching, null_image="zeros", drop_image=1.0, guidance=ClassifierFreeGuidance(2.0))
    denoiser = captioner.denoiser
    assert isinstance(denoiser, Watching)
    assert "null_token" not in captioner.state_dict()
    zeros = captioner.image_encoder(torch.zeros(1, 3, 16, 16))
    captioner.train().losses(training_batch(captioner))
    assert torch.equal(denoiser.tokens[0], zeros.expand(4, -1, -1))
    captioner.eval().generate(evaluation_batch(captioner))
    assert torch.equal(denoiser.tokens[1], zeros)


def test_a_captioner_made_in_inference_mode_is_guided_too() -> None:
    with torch.inference_mode():
        captioner = model(guidance=ClassifierFreeGuidance(2.0)).eval()
        first = captioner.generate(evaluation_batch(captioner)).latents
        assert torch.equal(captioner.generate(evaluation_batch(captioner)).latents, first)


def test_the_picture_of_zeros_is_encoded_once_for_all_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    captioner = model(null_image="zeros", guidance=ClassifierFreeGuidance(2.0)).eval()
    encode, sizes = captioner.image_encoder.encode, []
    monkeypatch.setattr(captioner.image_encoder, "encode", lambda images: sizes.append(len(images)) or encode(images))
    with torch.inference_mode():  # as validation does, before training goes on
        first = captioner.generate(evaluation_batch(captioner)).latents
        assert torch.equal(captioner.generate(evaluation_batch(captioner)).latents, first)
    assert sizes == [4, 1, 4]
    captioner.drop_image = 1.0
    captioner.train().losses(training_batch(captioner))["loss"].backward()
    state = captioner.state_dict()
    other = {key: value + 0.1 if key.startswith("image_encoder") else value for key, value in state.items()}
    before = captioner.null_tokens(torch.zeros(1))
    captioner.load_state_dict(other)
    assert not torch.equal(captioner.null_tokens(torch.zeros(1)), before), "other weights, other tokens"


def test_a_trained_encoder_gets_no_gradient_from_the_picture_of_zeros_alone() -> None:
    encoder = ConvEncoder(image_size=16, channels=(8, 8), frozen=False)
    captioner = model(image_encoder=encoder, null_image="zeros", drop_image=1.0).train()
    captioner.losses(training_batch(captioner))["loss"].backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters()), "it is part of the graph"
