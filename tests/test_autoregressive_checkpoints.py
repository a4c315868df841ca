"""Checkpoints of the autoregressive baseline, and what is said of those of other captioners."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_baselines import autoregressive, pictures
from tiny_captioner import evaluation_batch, fit

from ladic.baselines import AutoregressiveCaptioner
from ladic.captioner import LatentDiffusionCaptioner
from ladic.captioner_base import Captioner
from ladic.errors import UsageError
from ladic.postprocess import CleanCaption
from ladic.rerank import MinimumBayesRiskSelector
from ladic.testing import tiny_text_space


def test_a_word_table_follows_its_checkpoint(tmp_path: Path) -> None:
    space = tiny_text_space()
    space.head.restrict(torch.arange(20))
    space.save_fit(tmp_path / "space.safetensors")
    for tied in (True, False):
        captioner = autoregressive(vocabulary=str(tmp_path / "space.safetensors"), sizes={"tied": tied})
        run = fit(captioner, tmp_path, pictures(captioner))
        run.save_checkpoint(tmp_path / "model.ckpt")
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        again = Captioner.load_from_checkpoint(tmp_path / "model.ckpt")
        assert isinstance(again, AutoregressiveCaptioner)
        assert again.vocabulary_size == captioner.vocabulary_size == 20
        assert all(torch.equal(value, again.state_dict()[name]) for name, value in captioner.state_dict().items())


def test_a_checkpoint_comes_back_from_the_file_alone(tmp_path: Path) -> None:
    captioner = autoregressive(
        beam_size=2,
        length_penalty=0.5,
        min_length=1,
        max_length=6,
        label_smoothing=0.2,
        sampling="sample",
        num_candidates=3,
        temperature=0.8,
        top_p=0.7,
        seed=5,
        selector=MinimumBayesRiskSelector(2),
        postprocess=CleanCaption(ending="stop"),
        sizes={"norm": "post", "image_width": 12},
    )
    fit(captioner, tmp_path, max_steps=3).save_checkpoint(tmp_path / "model.ckpt")
    stored = torch.load(tmp_path / "model.ckpt", weights_only=True)["ladic"]
    json.dumps(stored)
    again = Captioner.load_from_checkpoint(tmp_path / "model.ckpt")
    assert type(again) is AutoregressiveCaptioner
    captioner.eval()
    batch = evaluation_batch(captioner)
    assert again.predict_step(batch, 0) == captioner.predict_step(batch, 0)
    assert all(caption.endswith(".") for caption in again.predict_step(batch, 0)["captions"])
    assert again.description() == captioner.description()
    assert not any(module.training for module in again.modules())
    wider = AutoregressiveCaptioner.load_from_checkpoint(tmp_path, beam_size=5)
    assert wider.beam_size == 5
    folder = captioner.save_pretrained(tmp_path / "folder")
    assert (folder / "tokenizer.json").is_file()
    published = Captioner.from_pretrained(folder)
    assert published.predict_step(batch, 0) == captioner.predict_step(batch, 0)
    card = (folder / "README.md").read_text()
    assert "from ladic import AutoregressiveCaptioner" in card
    assert "word by word" in card
    assert "diffusion" not in card.partition("\n---\n")[0]


def test_a_checkpoint_of_another_captioner_is_refused_by_name(tmp_path: Path) -> None:
    captioner = autoregressive()
    fit(captioner, tmp_path, pictures(captioner)).save_checkpoint(tmp_path / "model.ckpt")
    with pytest.raises(UsageError, match=r"holds a captioner of the class AutoregressiveCaptioner; this is for Latent"):
        LatentDiffusionCaptioner.load_from_checkpoint(tmp_path)
    contents = torch.load(tmp_path / "model.ckpt", weights_only=True)
    contents["ladic"]["captioner"] = "subprocess.Popen"
    torch.save(contents, tmp_path / "model.ckpt")
    with pytest.raises(UsageError, match="holds a captioner of the class Popen; this is for Captioner"):
        Captioner.load_from_checkpoint(tmp_path)


@pytest.mark.parametrize("named", [3, None, ["a"], ".relative", "no_such_package.Captioner", "ladic.captioners.Gone"])
def test_a_captioner_that_can_not_be_found_is_told(tmp_path: Path, named: Any) -> None:
    folder = autoregressive().save_pretrained(tmp_path / "folder")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "captioner": named}))
    for cls in (Captioner, AutoregressiveCaptioner):
        with pytest.raises(UsageError, match=r"captioner is|can't be imported") as caught:
            cls.from_pretrained(folder)
        assert "\n" not in str(caught.value)


def test_a_captioner_of_a_script_is_read_as_the_class_that_asks(tmp_path: Path) -> None:
    class Mine(AutoregressiveCaptioner):
        pass

    folder = autoregressive().save_pretrained(tmp_path / "folder")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "captioner": f"{Mine.__module__}.{Mine.__qualname__}"}))
    with pytest.warns(UserWarning, match="was made in a script; read as AutoregressiveCaptioner"):
        assert type(AutoregressiveCaptioner.from_pretrained(folder)) is AutoregressiveCaptioner
    with pytest.raises(UsageError, match="can't be imported"):
        Captioner.from_pretrained(folder)
