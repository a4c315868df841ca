"""The captioner: it learns, keeps its frozen parts, and never sees references."""

import functools
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback
from tiny_captioner import (
    CAPTIONS,
    IDS,
    SMALL,
    evaluation_batch,
    fit,
    learn,
    loader,
    model,
    trainer,
    training_batch,
    watched,
)
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


def test_validation_encodes_a_picture_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captioner = model()
    encode, sizes = captioner.image_encoder.encode, []
    monkeypatch.setattr(captioner.image_encoder, "encode", lambda images: sizes.append(len(images)) or encode(images))
    trainer(tmp_path, limit_val_batches=1).validate(captioner, loader(evaluation_batch(captioner)), verbose=False)
    assert sizes == [4], "for its losses and its captions"


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
