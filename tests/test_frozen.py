"""What checkpoints leave out, and that older ones load."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_run import BERT, TOKENIZER, error_line, tiny_config, write_config

from ladic.captioner import LatentDiffusionCaptioner
from ladic.checkpoints import FORMAT, read_checkpoint
from ladic.components.image_encoders import ConvEncoder
from ladic.errors import UsageError

EMA = {"class_path": "ladic.callbacks.WeightAverage", "init_args": {"decay": 0.7}}


def make_sources(folder):
    """Weights of an image encoder, and a text model, as files."""
    from transformers import BertConfig, BertForMaskedLM

    from ladic.components.latent_spaces.backbone import load_tokenizer

    torch.manual_seed(5)
    encoder = ConvEncoder(32, (8, 16))
    save_file(encoder.state_dict(), folder / "encoder.safetensors")
    BertForMaskedLM(BertConfig(**BERT)).save_pretrained(folder / "text")
    load_tokenizer(TOKENIZER).save_pretrained(folder / "text")


def config_of(folder):
    config = tiny_config(folder)
    config["model"]["image_encoder"]["init_args"]["weights"] = str(folder / "encoder.safetensors")
    space = config["model"]["latent_space"]["init_args"]
    space["model"] = str(folder / "text")
    del space["config"]
    config["trainer"]["callbacks"].insert(0, EMA)
    return config


@pytest.fixture(scope="module")
def lean(tmp_path_factory):
    """Folder of a run whose frozen parts come from files."""
    from ladic.cli.main import main

    folder = tmp_path_factory.mktemp("lean")
    make_sources(folder)
    main(["fit", "-c", str(write_config(folder, config_of(folder)))])
    return folder


def test_frozen_weights_are_named_instead_of_stored(lean):
    checkpoint = read_checkpoint(lean / "run")
    for state in ("state_dict", "current_model_state"):
        names = set(checkpoint[state])
        assert not [name for name in names if name.startswith("image_encoder.")]
        left = {name.split(".")[1] for name in names if name.startswith("latent_space.")}
        assert left == {"normalizer", "head"}
        assert "denoiser.output.weight" in names
    frozen = checkpoint["ladic"]["frozen"]
    assert frozen["image_encoder"]["source"] == {"weights": str((lean / "encoder.safetensors").resolve())}
    assert frozen["latent_space"]["source"]["model"] == str((lean / "text").resolve())
    assert all(len(part["sha256"]) == 64 for part in frozen.values())


def test_it_loads_with_exactly_the_weights_of_the_source(lean):
    model = LatentDiffusionCaptioner.load_from_checkpoint(lean / "run")
    stored = load_file(lean / "encoder.safetensors")
    assert all(torch.equal(value, stored[name]) for name, value in model.image_encoder.state_dict().items())
    assert not model.training


def test_test_and_resuming_take_them_from_the_configuration(cli, lean, tmp_path):
    config = write_config(lean, config_of(lean), "again.yaml")
    root = f"--trainer.default_root_dir={tmp_path}"
    assert cli("test", "-c", config, f"--ckpt_path={lean / 'run'}", root).code == 0
    done = cli("fit", "-c", config, f"--ckpt_path={lean / 'run'}", root, "--trainer.max_steps=3",
               f"--trainer.callbacks.dirpath={tmp_path}")  # fmt: skip
    assert done.code == 0, done.stderr
    assert "begins at step 2" in done.stdout
    first, second = (read_checkpoint(folder)["ladic"]["frozen"] for folder in (lean / "run", tmp_path))
    assert first == second  # resumed weights are those of the source to the bit, averaged or not


def test_a_changed_backbone_is_noticed(cli, lean, tmp_path):
    make_sources(tmp_path)
    tensors = load_file(tmp_path / "encoder.safetensors")
    tensors["positions"][0, 0] += 1e-3
    save_file(tensors, tmp_path / "other.safetensors")
    config = config_of(lean)
    config["model"]["image_encoder"]["init_args"]["weights"] = str(tmp_path / "other.safetensors")
    done = cli("test", "-c", write_config(tmp_path, config), f"--ckpt_path={lean / 'run'}")
    assert done.code == 2
    line = error_line(done.stderr)
    assert line.startswith("model.image_encoder: its frozen weights are not those that the checkpoint was trained with")
    assert str(lean / "encoder.safetensors") in line
    other = ConvEncoder(32, (8, 16), weights=str(tmp_path / "other.safetensors"))
    with pytest.raises(UsageError, match=r"model\.image_encoder: its frozen weights"):
        LatentDiffusionCaptioner.load_from_checkpoint(lean / "run", image_encoder=other)


def test_a_source_that_is_gone_is_named(tmp_path):
    from ladic.cli.main import main

    make_sources(tmp_path)
    main(["fit", "-c", str(write_config(tmp_path, config_of(tmp_path)))])
    (tmp_path / "encoder.safetensors").rename(tmp_path / "moved.safetensors")
    with pytest.raises(UsageError, match=r"leaves out the frozen weights of image_encoder \(weights=.*put them back"):
        LatentDiffusionCaptioner.load_from_checkpoint(tmp_path / "run")
    encoder = ConvEncoder(32, (8, 16), weights=str(tmp_path / "moved.safetensors"))
    LatentDiffusionCaptioner.load_from_checkpoint(tmp_path / "run", image_encoder=encoder)


def test_they_can_be_kept(cli, tmp_path):
    make_sources(tmp_path)
    done = cli("fit", "-c", write_config(tmp_path, config_of(tmp_path)), "--model.save_frozen=true")
    assert done.code == 0, done.stderr
    for source in ("encoder.safetensors", "text"):
        (tmp_path / source).rename(tmp_path / f"gone-{source}")
    LatentDiffusionCaptioner.load_from_checkpoint(tmp_path / "run")


def test_weights_from_nowhere_are_kept(trained):
    checkpoint = read_checkpoint(trained)
    assert checkpoint["ladic"]["frozen"] == {}
    assert "image_encoder.positions" in checkpoint["state_dict"]


OLD = ["##cccccccccccc", "##cciccccccccc", "##cccccccicccc", "##cccccccciiic"]
"""Captions of the run that wrote tests/data/format1.ckpt, at commit 4f92eba: two steps, averaged weights."""


def test_a_checkpoint_of_format_1_gives_its_captions_and_goes_on(cli, root, tmp_path):
    file = root / "tests" / "data" / "format1.ckpt"
    assert read_checkpoint(file)["ladic"]["format"] == 1
    LatentDiffusionCaptioner.load_from_checkpoint(file)
    config = tiny_config(tmp_path)
    config["model"]["image_encoder"]["init_args"]["channels"] = [4, 8]
    config["trainer"]["callbacks"].insert(0, EMA)
    written = write_config(tmp_path, config)
    assert cli("validate", "-c", written, f"--ckpt_path={file}").code == 0
    assert [entry["caption"] for entry in json.loads((tmp_path / "run" / "results_val.json").read_text())] == OLD
    done = cli("fit", "-c", written, f"--ckpt_path={file}", "--trainer.max_steps=3")
    assert done.code == 0, done.stderr
    assert "begins at step 2" in done.stdout
    assert read_checkpoint(tmp_path / "run")["ladic"]["format"] == FORMAT == 2


def test_a_newer_format_is_refused(trained, tmp_path):
    checkpoint = read_checkpoint(trained)
    checkpoint["ladic"]["format"] = FORMAT + 1
    torch.save(checkpoint, tmp_path / "new.ckpt")
    with pytest.raises(UsageError, match="is newer than this ladic; update it"):
        read_checkpoint(tmp_path / "new.ckpt")
