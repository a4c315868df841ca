"""What conditions the denoiser beside the noisy latent: the image or none, and its own earlier estimate."""

from typing import Any

import pytest
import torch
from tiny_captioner import Watching, evaluation_batch, model, training_batch, watched

from ladic.components import (
    ConvEncoder,
)
from ladic.draws import BatchDraws
from ladic.guidance import ClassifierFreeGuidance


def test_dropped_images_are_replaced_by_the_learned_null_token() -> None:
    captioner, denoiser = watched(drop_image=1.0)
    captioner.train()
    captioner.losses(training_batch(captioner))["loss"].backward()
    assert torch.equal(denoiser.tokens[0], captioner.null_token.detach().expand(4, 16, -1))
    assert captioner.null_token.grad is not None
    assert captioner.null_token.grad.abs().sum() > 0, "it is learned"


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


@pytest.mark.parametrize("coin", ["share", "sample", "batch"])
def test_ranks_throw_the_coins_of_one_process(coin: Any) -> None:
    def rows(rank: int, world_size: int) -> list[int]:
        draws = BatchDraws(6 // world_size, "cpu", torch.Generator().manual_seed(3), rank, world_size)
        return draws.conditioned(0.5, coin).tolist()

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
