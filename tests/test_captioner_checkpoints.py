"""Checkpoints: the captioner comes back from the file alone, and a killed run goes on."""

import functools
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_captioner import CAPTIONS, SMALL, evaluation_batch, fit, loader, model, trainer, training_batch
from torch import Tensor

from ladic.captioner import LatentDiffusionCaptioner
from ladic.checkpoints import find_checkpoint, read_checkpoint
from ladic.components import (
    BertLatentSpace,
    ConvEncoder,
    CrossAttentionDenoiser,
    DDIMSampler,
    DilatedSchedule,
    LinearSchedule,
    RenoiseSampler,
    ShiftedSchedule,
)
from ladic.errors import UsageError
from ladic.guidance import ClassifierFreeGuidance
from ladic.rerank import MinimumBayesRiskSelector
from ladic.testing import tiny_text_space


def restricted() -> BertLatentSpace:
    space = tiny_text_space()
    used = torch.unique(space.tokenize(CAPTIONS).input_ids.flatten())
    space.head.restrict(torch.unique(torch.cat([used, torch.tensor([space.tokenizer.unk_token_id])])))
    return space


BUILT: dict[str, Callable[[], LatentDiffusionCaptioner]] = {
    "keywords": model,
    "partial": lambda: model(functools.partial(CrossAttentionDenoiser, **SMALL, norm="pre"), self_conditioning=0.0),
    "lambda": lambda: model(
        lambda width, length, cond_width: CrossAttentionDenoiser(
            width=width, length=length, cond_width=cond_width, num_heads=4, hidden_width=16, num_layers=2, ffn_width=8
        ),
        guidance=ClassifierFreeGuidance(3.0, start=0.8, stop=0.2),
        seed=7,
    ),
    "positional": lambda: LatentDiffusionCaptioner(
        ConvEncoder(16, (8, 8)),
        tiny_text_space(2, 12, special_token="."),
        functools.partial(CrossAttentionDenoiser, **SMALL),
        ShiftedSchedule(LinearSchedule(1000), 3.0),
        RenoiseSampler(4),
        ClassifierFreeGuidance(1.0),
        MinimumBayesRiskSelector(2),
        2,
        "mse",
    ),
    "restricted": lambda: model(latent_space=restricted()),
    "released": lambda: model(
        functools.partial(CrossAttentionDenoiser, **{**SMALL, "hidden_width": 64}, projections=False, time="sinusoids"),
        latent_space=tiny_text_space(decoder_layers=0, special_token=".", normalizer_eps=0.0, encoder_dropout=True),
        noise_schedule=DilatedSchedule(LinearSchedule(1000)),
        guidance=ClassifierFreeGuidance(2.0, time_difference=0.005),
        self_conditioning_coin="batch",
        null_image="zeros",
        decay="all",
    ),
}


@pytest.mark.parametrize("name", BUILT)
def test_a_checkpoint_comes_back_from_the_file_alone_with_bit_equal_captions(tmp_path: Path, name: str) -> None:
    captioner = BUILT[name]()
    run = fit(captioner, tmp_path)
    file = tmp_path / "model.ckpt"
    run.save_checkpoint(file)
    torch.load(file, weights_only=True)
    torch.manual_seed(1234)
    again = LatentDiffusionCaptioner.load_from_checkpoint(file)
    captioner.eval()
    batch = evaluation_batch(captioner)
    ours, theirs = captioner.generate(batch), again.generate(batch)
    assert torch.equal(ours.latents, theirs.latents)
    assert ours.candidates == theirs.candidates
    assert again.predict_step(batch, 0) == captioner.predict_step(batch, 0)
    assert not any(module.training for module in again.modules())
    assert again.guidance == captioner.guidance
    assert again.latent_loss == captioner.latent_loss
    assert again.preprocess == captioner.preprocess
    assert again.latent_space.vocabulary_size == captioner.latent_space.vocabulary_size
    # And once more, from a checkpoint of the reloaded one.
    second = trainer(tmp_path)
    second.strategy.connect(again)
    second.save_checkpoint(tmp_path / "second.ckpt", weights_only=True)
    third = LatentDiffusionCaptioner.load_from_checkpoint(tmp_path / "second.ckpt")
    assert torch.equal(third.generate(batch).latents, ours.latents)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with one checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    fit(model(), folder).save_checkpoint(folder / "checkpoints" / "last.ckpt")
    return folder


def test_overrides_replace_what_the_checkpoint_says(trained: Path) -> None:
    load = LatentDiffusionCaptioner.load_from_checkpoint
    plain = load(trained)
    changed = load(trained, sampler=RenoiseSampler(7), num_candidates=2, guidance=ClassifierFreeGuidance(1.0), seed=5)
    assert (type(changed.sampler), changed.sampler.num_steps) == (RenoiseSampler, 7)
    assert (changed.num_candidates, changed.guidance.scale, changed.seed) == (2, 1.0, 5)
    assert isinstance(plain.sampler, DDIMSampler)
    batch = evaluation_batch(plain)
    assert changed.generate(batch).nfe == 7
    assert plain.generate(batch).nfe == 6
    same = load(trained, sampler=DDIMSampler(3))
    assert torch.equal(same.generate(batch).latents, plain.generate(batch).latents)


@pytest.mark.parametrize(
    ("overrides", "tensor"),
    [
        ({"image_encoder": ConvEncoder(16, (8, 16))}, r"null_token \(1, 1, 8\) where the model has \(1, 1, 16\)"),
        ({"latent_space": tiny_text_space(length=9)}, r"denoiser\.positions \(12, 32\) where the model has \(9, 32\)"),
        ({"latent_space": tiny_text_space(layer=2)}, r"latent_space\.lower\.1\..* missing"),
        (
            {"denoiser": functools.partial(CrossAttentionDenoiser, **{**SMALL, "num_layers": 2})},
            r"blocks\.1\..* missing",
        ),
        (
            {"denoiser": functools.partial(CrossAttentionDenoiser, **{**SMALL, "hidden_width": 16})},
            r"denoiser\.positions",
        ),
    ],
    ids=["encoder", "length", "layer", "blocks", "width"],
)
def test_a_checkpoint_of_other_sizes_is_refused_in_one_line(
    trained: Path, overrides: dict[str, Any], tensor: str
) -> None:
    with pytest.raises(UsageError, match=f"made by a model of other sizes or parts .*{tensor}") as caught:
        LatentDiffusionCaptioner.load_from_checkpoint(trained, **overrides)
    assert "\n" not in str(caught.value)


def test_going_on_from_a_checkpoint_of_other_sizes_is_refused_too(trained: Path, tmp_path: Path) -> None:
    captioner = model(functools.partial(CrossAttentionDenoiser, **{**SMALL, "hidden_width": 16}))
    batches = loader(training_batch(captioner))
    with pytest.raises(UsageError, match=r"denoiser\.positions \(12, 32\) where the model has \(12, 16\)"):
        trainer(tmp_path).fit(
            captioner, batches, ckpt_path=str(trained / "checkpoints" / "last.ckpt"), weights_only=True
        )


@pytest.mark.parametrize("kept", ["fewer", "more", "others"])
def test_a_head_of_other_words_follows_the_file(tmp_path: Path, kept: str) -> None:
    captioner = model(latent_space=restricted())
    fit(captioner, tmp_path).save_checkpoint(tmp_path / "model.ckpt")
    space, words = tiny_text_space(), captioner.latent_space.head.vocabulary
    if kept == "fewer":
        space.head.restrict(words[:-2])
    if kept == "others":
        ids = torch.arange(len(space.tokenizer))
        space.head.restrict(torch.unique(torch.cat([ids[: len(words) - 1], ids[-1:]])))
    again = LatentDiffusionCaptioner.load_from_checkpoint(tmp_path, latent_space=space)
    assert torch.equal(again.latent_space.head.vocabulary, words)
    captioner.eval()
    batch = evaluation_batch(captioner)
    assert again.generate(batch).candidates == captioner.generate(batch).candidates


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_pickled_code_is_refused_and_not_run(tmp_path: Path, trained: Path) -> None:
    contents = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    harmful = tmp_path / "harmful.ckpt"
    torch.save({**contents, "extra": Payload(tmp_path / "touched")}, harmful)
    with pytest.raises(UsageError, match=rf"checkpoint '{harmful}': can't be read") as caught:
        LatentDiffusionCaptioner.load_from_checkpoint(harmful)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "touched").exists()
    pickle.loads(pickle.dumps(Payload(tmp_path / "touched")))
    assert (tmp_path / "touched").exists(), "the payload does work where pickles are believed"


def test_a_checkpoint_that_names_a_foreign_class_is_refused(tmp_path: Path, trained: Path) -> None:
    contents = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    contents["ladic"]["components"]["sampler"] = {"class_path": "subprocess.Popen", "init_args": {"args": "true"}}
    torch.save(contents, tmp_path / "foreign.ckpt")
    with pytest.raises(UsageError, match=r"'subprocess\.Popen' is not a Sampler"):
        LatentDiffusionCaptioner.load_from_checkpoint(tmp_path / "foreign.ckpt")


def test_files_that_are_no_checkpoints_of_ours_are_named(tmp_path: Path, trained: Path) -> None:
    whole = (trained / "checkpoints" / "last.ckpt").read_bytes()
    cases = {"text": b"hello", "empty": b"", "cut": whole[: len(whole) // 2], "binary": bytes(range(256)) * 8}
    for name, content in cases.items():
        file = tmp_path / f"{name}.ckpt"
        file.write_bytes(content)
        words = rf"{name}\.ckpt': can't be read.*(is the file complete|it is no checkpoint)"
        with pytest.raises(UsageError, match=words) as told:
            read_checkpoint(file)
        assert "\n" not in str(told.value)
    torch.save({"state_dict": {}}, tmp_path / "stranger.ckpt")
    with pytest.raises(UsageError, match="not written by ladic"):
        read_checkpoint(tmp_path / "stranger.ckpt")
    torch.save({"ladic": {"format": 99}}, tmp_path / "future.ckpt")
    with pytest.raises(UsageError, match="format 99 is newer than this ladic"):
        read_checkpoint(tmp_path / "future.ckpt")


def test_a_run_folder_stands_for_its_last_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no \.ckpt file"):
        find_checkpoint(tmp_path)
    with pytest.raises(UsageError, match=r"no such file or folder; give the \.ckpt file or the folder of a run"):
        find_checkpoint(tmp_path / "absent")
    (tmp_path / "checkpoints").mkdir()
    for age, name in enumerate(["last.ckpt", "epoch=1.ckpt", "epoch=2.ckpt"]):
        (tmp_path / "checkpoints" / name).touch()
        os.utime(tmp_path / "checkpoints" / name, (age, age))
    assert find_checkpoint(tmp_path).name == "last.ckpt"
    (tmp_path / "resume.ckpt").touch()
    os.utime(tmp_path / "resume.ckpt", (0, 0))
    assert find_checkpoint(tmp_path).name == "last.ckpt"
    os.utime(tmp_path / "resume.ckpt", (9, 9))
    assert find_checkpoint(tmp_path).name == "resume.ckpt", "saved after the last one"
    (tmp_path / "checkpoints" / "last.ckpt").unlink()
    assert find_checkpoint(tmp_path).name == "epoch=2.ckpt"


def test_the_best_checkpoint_is_the_one_that_the_run_found_best(tmp_path: Path) -> None:
    folder = tmp_path / "run/checkpoints"
    folder.mkdir(parents=True)
    (folder / "epoch=1.ckpt").touch()

    def save(**state: Any) -> None:
        torch.save(
            {"ladic": {"format": 2}, "callbacks": {"Requeue": {}, "ModelCheckpoint{}": state}}, folder / "last.ckpt"
        )

    save(monitor=None, best_model_path="/cluster/run/checkpoints/last.ckpt")
    with pytest.raises(UsageError, match=r"checkpoint 'best:.*run': no score was watched when it was trained"):
        find_checkpoint(f"best:{tmp_path}/run")
    save(monitor="val/CIDEr-D", best_model_path="/cluster/run/checkpoints/epoch=1.ckpt")
    assert find_checkpoint(f"best:{tmp_path}/run") == folder / "epoch=1.ckpt", "where the folder is now"
    (folder / "epoch=1.ckpt").unlink()
    with pytest.raises(UsageError, match=r"'epoch=1\.ckpt' is gone; give the folder without 'best:'"):
        find_checkpoint(f"best:{tmp_path}/run")


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    captioner = model()
    whole = fit(captioner, tmp_path / "a", max_steps=2)
    whole.save_checkpoint(tmp_path / "killed.ckpt")
    steps: list[int] = []
    resumed = model(init_seed=77)
    resumed.denoiser.register_forward_pre_hook(lambda *_: steps.append(resumed.trainer.global_step))
    run = trainer(tmp_path / "b", max_steps=4)
    batches = loader(training_batch(resumed))
    weights: list[Tensor] = []
    resumed.on_train_start = lambda: weights.append(resumed.state_dict()["denoiser.output.weight"].clone())  # type: ignore[method-assign]
    run.fit(resumed, batches, ckpt_path=str(tmp_path / "killed.ckpt"), weights_only=True)
    assert torch.equal(weights[0], captioner.state_dict()["denoiser.output.weight"])
    assert min(steps) == 2
    assert run.global_step == 4
