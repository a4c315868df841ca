"""The captioner: it learns, keeps its frozen parts, and never sees references."""

import functools
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback
from tiny_captioner import CAPTIONS, IDS, SMALL, evaluation_batch, fit, learn, loader, model, trainer, training_batch
from torch import Tensor

from ladic.captioner import LatentDiffusionCaptioner
from ladic.components import (
    ConvEncoder,
    CrossAttentionDenoiser,
    DilatedSchedule,
    LinearSchedule,
)
from ladic.draws import BatchDraws
from ladic.errors import UsageError
from ladic.guidance import ClassifierFreeGuidance
from ladic.optim import WarmupDecay
from ladic.rerank import Evidence, MinimumBayesRiskSelector
from ladic.testing import tiny_text_space
from ladic.types import CaptionBatch

# Training.


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"self_conditioning": 0.0},
        {"self_conditioning": 1.0, "noise_draws": 3, "latent_loss": "mse"},
        {"drop_image": 1.0},
    ],
    ids=lambda settings: "-".join(settings) or "defaults",
)
def test_a_few_steps_on_one_batch_lower_the_loss(settings: dict[str, Any]) -> None:
    losses = learn(model(**settings), 12)
    assert losses[-1] < 0.8 * losses[0]
    assert sum(later < earlier for earlier, later in pairwise(losses)) >= 9


def test_overfitting_four_images_brings_back_their_captions() -> None:
    captioner = model(
        functools.partial(CrossAttentionDenoiser, **SMALL, norm="pre"),
        latent_space=tiny_text_space(layer=3),
        drop_image=0.0,
        caption_loss_weight=1.0,
        noise_draws=8,
        guidance=ClassifierFreeGuidance(1.0),
    )
    batch: CaptionBatch = {**training_batch(captioner), "image_tokens": torch.randn(4, 16, 8)}
    captioner.train()
    optimizer = torch.optim.AdamW([p for p in captioner.parameters() if p.requires_grad], lr=1e-2)
    schedule = WarmupDecay()(optimizer, 160)
    for _ in range(160):
        optimizer.zero_grad()
        captioner.losses(batch)["loss"].backward()
        optimizer.step()
        schedule.step()
    captioner.eval()
    said = [options[0].split()[:3] for options in captioner.generate(batch).candidates]
    assert said == [caption.split()[:3] for caption in CAPTIONS]


def test_the_losses_are_those_of_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    captioner = model(drop_image=0.0, self_conditioning=0.0, caption_loss_weight=0.3).eval()
    batch = training_batch(captioner)
    t, noise = torch.tensor([0.1, 0.4, 0.6, 0.9]), torch.randn(4, 12, 32)
    monkeypatch.setattr(torch, "rand", lambda *shape, **kwargs: t.view(shape))
    monkeypatch.setattr(torch, "randn", lambda *shape, **kwargs: noise.view(shape))
    with torch.no_grad():
        ours = captioner.losses(batch)
        space, ids, mask = captioner.latent_space, batch["input_ids"], batch["attention_mask"]
        x0 = space.encode(ids, mask)
        a = captioner.noise_schedule.alpha_bar(t).view(-1, 1, 1)
        context = captioner.denoiser.context(captioner.image_encoder(batch["image"]))
        predicted = captioner.denoiser(a.sqrt() * x0 + (1 - a).sqrt() * noise, t, context, None)
        latent = ((predicted - x0) ** 2).sum(-1).sqrt().mean()
        words = torch.log_softmax(space.decode(predicted), -1)
        targets = space.targets(ids, mask)
        caption = -words.gather(-1, targets.unsqueeze(-1)).mean()
        n = mask.sum(1)
        right = [bool(words[row, i].argmax() == targets[row, i]) for row in range(4) for i in range(1, int(n[row]) - 1)]
    torch.testing.assert_close(ours["latent_loss"], latent)
    torch.testing.assert_close(ours["caption_loss"], caption)
    torch.testing.assert_close(ours["loss"], latent + 0.3 * caption)
    assert float(ours["token_accuracy"]) == pytest.approx(sum(right) / len(right)), "special positions don't count"


def test_frozen_parts_stay_as_they_are_and_in_eval_mode(tmp_path: Path) -> None:
    captioner = model(guidance=ClassifierFreeGuidance(1.0))
    before = {key: value.clone() for key, value in captioner.state_dict().items()}
    seen: list[bool] = []

    def watch(module: Any, *_: Any) -> None:
        space: Any = captioner.latent_space
        frozen = [captioner.image_encoder, space.embeddings, space.lower, space.upper]
        seen.append(
            any(part.training for module in frozen for part in module.modules()) or not captioner.denoiser.training
        )

    captioner.denoiser.register_forward_pre_hook(watch)
    fit(captioner, tmp_path, max_steps=3)
    assert seen
    assert not any(seen), "frozen parts were in training mode, or the trained ones weren't"
    changed = {key for key, value in captioner.state_dict().items() if not torch.equal(value, before[key])}
    trained = {name for name, parameter in captioner.named_parameters() if parameter.requires_grad}
    assert changed <= trained
    assert all(key.startswith(("denoiser.", "latent_space.head.", "null_token")) for key in trained)
    assert {"denoiser.output.weight", "latent_space.head.decoder.weight"} <= changed


class Watching(CrossAttentionDenoiser):
    """Notes the image tokens and estimates it is given."""

    def __init__(self, *, width: int, length: int, cond_width: int) -> None:
        super().__init__(width=width, length=length, cond_width=cond_width, **SMALL)
        self.tokens: list[Tensor] = []
        self.earlier: list[Tensor | None] = []

    def context(self, image_tokens: Tensor) -> Any:
        self.tokens.append(image_tokens.detach())
        return super().context(image_tokens)

    def forward(self, x_t: Tensor, t: Tensor, context: Any, x0_prev: Tensor | None = None) -> Tensor:
        self.earlier.append(x0_prev)
        return super().forward(x_t, t, context, x0_prev)


def watched(**settings: Any) -> tuple[LatentDiffusionCaptioner, Watching]:
    captioner = model(Watching, **settings)
    with torch.no_grad():
        captioner.null_token.normal_()
    assert isinstance(captioner.denoiser, Watching)
    return captioner, captioner.denoiser


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
    assert torch.equal(denoiser.tokens[0], captioner.null_token.detach().expand(1, 16, -1))


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


def test_training_follows_the_times_and_the_noise_of_its_schedule() -> None:
    captioner = model(noise_schedule=DilatedSchedule(LinearSchedule(1000), training=4.0), self_conditioning=0.0).train()
    draws = captioner._step_draws(BatchDraws(4, "cpu"), torch.zeros(4, 12, 32))
    assert torch.equal((draws.times * 999).round() / 999, draws.times), "whole entries of the table"
    seen: list[Tensor] = []
    captioner.denoiser.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    batch = training_batch(captioner)
    captioner.losses(batch, draws)
    x0 = captioner.latent_space.encode(batch["input_ids"], batch["attention_mask"])
    a = captioner.noise_schedule.alpha_bar(draws.times).view(-1, 1, 1)
    torch.testing.assert_close(seen[0], a.sqrt() * x0 + 4 * (1 - a).sqrt() * draws.noise, atol=1e-5, rtol=1e-5)


def test_noise_draws_share_the_image_and_the_caption() -> None:
    captioner, denoiser = watched(noise_draws=3, self_conditioning=0.0)
    rows: list[int] = []
    denoiser.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    captioner.train().losses(training_batch(captioner))
    assert [len(tokens) for tokens in denoiser.tokens] == [4]
    assert rows == [12]


def test_cached_tokens_stand_in_for_the_image() -> None:
    captioner = model().eval()
    with_image = evaluation_batch(captioner)
    tokens = captioner.image_encoder(with_image["image"])
    cached: CaptionBatch = {"image_tokens": tokens, "image_id": IDS}
    assert torch.equal(captioner.generate(cached).latents, captioner.generate(with_image).latents)


def test_unfitted_statistics_are_refused_with_the_command(tmp_path: Path) -> None:
    captioner = model()
    captioner.latent_space.normalizer.fitted.fill_(False)
    with pytest.raises(
        UsageError, match=r"not fitted; run `ladic fit-space -c CONFIG --output FILE` and .*fitted=FILE"
    ):
        fit(captioner, tmp_path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_candidates": 0}, "num_candidates=0: need at least 1"),
        ({"noise_draws": 0}, "noise_draws=0: need at least 1"),
        ({"drop_image": 1.5}, r"drop_image=1\.5: a probability"),
        ({"self_conditioning_coin": "dice"}, "self_conditioning_coin='dice': accepted are share, sample, batch"),
        ({"null_image": "black"}, "null_image='black': accepted are learned, zeros"),
        ({"decay": "none"}, "decay='none': accepted are matrices, all"),
        ({"self_conditioning": -0.1}, r"self_conditioning=-0\.1: a probability"),
    ],
)
def test_impossible_settings_are_refused_by_name(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        model(**settings)


def test_a_trained_encoder_can_not_be_cached() -> None:
    captioner = model(image_encoder=ConvEncoder(16, (8, 8), frozen=False))
    with pytest.raises(UsageError, match=r"data\.features: the image encoder is trained"):
        captioner.encoder_fingerprint()
    assert "denoiser.output.weight" not in model().encoder_fingerprint()


def test_the_learning_rate_follows_the_length_of_the_run(tmp_path: Path) -> None:
    captioner = model(lr_schedule=WarmupDecay(0.5, floor=0.1))
    rates: list[float] = []
    captioner.denoiser.register_forward_pre_hook(
        lambda *_: rates.append(captioner.trainer.optimizers[0].param_groups[0]["lr"]) if captioner.training else None
    )
    captioner.self_conditioning = 0.0
    fit(captioner, tmp_path, max_steps=4, max_epochs=-1)
    assert rates == pytest.approx([1e-3, 2e-3, 3e-3, 3e-3 * (0.1 + 0.9 * 0.5)])


# Evaluation.


def every_caption(captioner: LatentDiffusionCaptioner, references: list[list[str]], folder: Path) -> list[list[str]]:
    """Captions of the batch from validation, test and prediction, in Lightning's own loops."""
    made: list[list[str]] = []

    class Recorder(Callback):
        def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
            made.append(args[2]["captions"])  # the step's output

        def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
            self.on_validation_batch_end(*args, **kwargs)

        def on_predict_batch_end(self, *args: Any, **kwargs: Any) -> None:
            self.on_validation_batch_end(*args, **kwargs)

    run = trainer(folder, limit_val_batches=1, callbacks=[Recorder()])
    batches = loader(evaluation_batch(captioner, references))
    run.validate(captioner, batches, verbose=False)
    run.test(captioner, batches, verbose=False)
    run.predict(captioner, batches)
    return made


def test_captions_do_not_depend_on_the_references_nor_on_their_length(tmp_path: Path) -> None:
    captioner = model(num_candidates=2)
    own = [[caption] for caption in CAPTIONS]
    other = [["x"], ["a much longer text than that of the picture itself, with more words"], ["", "b"], ["z"] * 7]
    first, second = (every_caption(captioner, references, tmp_path) for references in (own, other))
    assert first == second
    assert first == [first[0]] * 3, "validation, test and prediction agree"
    assert len(first[0]) == 4
    assert any(first[0]), "four empty captions would prove nothing"


def test_validation_losses_are_the_same_each_time_and_leave_the_generator_alone(tmp_path: Path) -> None:
    captioner = model()
    batches = loader(evaluation_batch(captioner))
    losses = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        losses.append(trainer(tmp_path, limit_val_batches=1).validate(captioner, batches, verbose=False)[0])
    assert losses[0] == losses[1]
    assert {"val/loss", "val/latent_loss", "val/caption_loss", "val/token_accuracy"} <= set(losses[0])
    state = torch.get_rng_state()
    captioner.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign]
    captioner.validation_step(evaluation_batch(captioner), 0)
    assert torch.equal(state, torch.get_rng_state())


def test_the_selector_picks_among_the_candidates() -> None:
    class Last(MinimumBayesRiskSelector):
        def scores(self, candidates: list[list[str]], evidence: Evidence) -> list[list[float]]:
            assert evidence.images is not None
            assert evidence.image_tokens is not None
            assert [len(options) for options in candidates] == [3] * 4
            return [[0.0, 1.0, 2.0] for _ in candidates]

    captioner = model(num_candidates=3, selector=Last()).eval()
    batch = evaluation_batch(captioner)
    expected = [options[2] for options in captioner.generate(batch).candidates]
    assert captioner.predict_step(batch, 0)["captions"] == expected
