"""The baselines' configurations train a step and caption pictures, with small stand-ins for the backbones."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_run import BERT, TOKENIZER, karpathy_tree

from ladic.checkpoints import read_checkpoint
from ladic.cli.configs import find_configs
from ladic.cli.configs_diff import flatten, load
from ladic.components import EmbeddingLatentSpace
from ladic.metrics.functional.cider import DocumentFrequencies

NAMES = ("study/autoregressive", "study/masked", "study/diffcap")
BASELINES = {name: find_configs()[name] for name in NAMES}
SIZES = find_configs()["study/sizes"]


def stand_ins(folder: Path) -> dict[str, Any]:
    """Flags by what they are for: the encoder without weights, the data, words, and sizes."""
    data = karpathy_tree(folder)["init_args"]
    space = EmbeddingLatentSpace(config=BERT, tokenizer=TOKENIZER, length=12)
    space.normalizer.fit(torch.randn(100, space.width))
    space.save_fit(folder / "space.safetensors")
    frequencies = folder / "frequencies.json.gz"
    DocumentFrequencies.from_references([["a red circle"], ["a blue square"]]).save(frequencies)
    (folder / "tokenizer.json").write_text(TOKENIZER)
    common = {
        "model.image_encoder.checkpoint_path": "null",
        "model.image_encoder.image_size": 32,
        **{f"data.{name}": value for name, value in data.items()},
        "data.test_split": "test",
        "data.eval_batch_size": 2,
        "trainer.accelerator": "cpu",
        "trainer.precision": "32-true",
        "trainer.max_steps": 1,
        "trainer.val_check_interval": 1,
        "trainer.limit_val_batches": 1,
        "trainer.log_every_n_steps": 1,
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
        "trainer.default_root_dir": folder / "run",
        "log_to": "[]",
    }
    words = {
        "model.tokenizer": folder / "tokenizer.json",
        "model.vocabulary": folder / "space.safetensors",
        "model.length": 12,
    }
    sizes = {"hidden_width": 16, "num_layers": 1, "num_heads": 2, "image_width": 16}
    latents = {
        "model.latent_space.model": "null",
        "model.latent_space.config": json.dumps(BERT),
        "model.latent_space.tokenizer": folder / "tokenizer.json",
        "model.latent_space.fitted": folder / "space.safetensors",
        "model.latent_space.length": 12,
        "model.denoiser.hidden_width": 16,
        "model.denoiser.num_layers": 1,
        "model.denoiser.num_heads": 2,
        "model.sampler.num_steps": 2,
        "model.num_candidates": 2,
        "model.selector.utility.frequencies": frequencies,
    }
    decoder = {f"model.decoder.{name}": value for name, value in sizes.items()}
    return {"word": common | words | decoder, "latent": common | latents}


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_trains_and_captions(cli: Any, tmp_path: Path, name: str) -> None:
    chosen = flatten(load(BASELINES[name])).get("model", "LatentDiffusionCaptioner")
    flags = stand_ins(tmp_path)["latent" if chosen == "LatentDiffusionCaptioner" else "word"]
    done = cli("fit", "-c", BASELINES[name], *(f"--{flag}={value}" for flag, value in flags.items()))
    assert done.code == 0, done.stderr
    assert len(json.loads((tmp_path / "run" / "results_val.json").read_text())) == 2
    assert read_checkpoint(tmp_path / "run")["ladic"]["captioner"].endswith(f".{chosen}")


def test_the_baselines_have_the_data_the_encoder_and_the_size_of_the_diffusion() -> None:
    """How each is trained and searched is its own affair: a recipe may be tuned."""
    theirs = flatten(load(SIZES))
    for name, file in BASELINES.items():
        ours = flatten(load(file))
        for key in theirs:
            if key.startswith(("data", "model.image_encoder")):
                assert ours[key] == theirs[key], (name, key)
        size = "model.denoiser" if name == "study/diffcap" else "model.decoder"
        for part in ("hidden_width", "num_layers", "num_heads", "dropout"):
            assert ours[f"{size}.{part}"] == theirs[f"model.denoiser.{part}"], (name, part)


def test_a_layer_keeps_what_the_one_below_says(cli: Any, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """Through the parser itself, not as `ladic configs diff` reads it: across two changes of the captioner."""
    monkeypatch.chdir(root)
    done = cli("fit", "-c", BASELINES["study/masked"], "--print_config")
    assert done.code == 0, done.stderr
    model = yaml.safe_load(done.stdout)["model"]
    assert model["class_path"] == "ladic.MaskedDiffusionCaptioner"
    arguments = model["init_args"]
    assert arguments["decoder"]["hidden_width"] == 256
    assert arguments["image_encoder"]["init_args"]["model_name"] == "mobilenetv2_100"
    assert arguments["optimizer"]["class_path"] == "ladic.muon.MuonAdamW"
    assert not {"beam_size", "sampler", "latent_space"} & set(arguments)
