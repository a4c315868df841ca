"""The recipes of configs/study train a step and caption pictures, with small stand-ins for the backbones."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from test_study_baselines import BASELINES
from tiny_run import BERT, TOKENIZER, counted, counts, karpathy_tree

from ladic.cli.configs import find_configs
from ladic.cli.configs_diff import flatten, load
from ladic.components import AnalogBitsLatentSpace
from ladic.metrics.functional.cider import DocumentFrequencies
from ladic.sweep import read_sweep
from ladic.testing import tiny_text_space

SWEEPS = {name: file for name, file in find_configs().items() if name.endswith("_study")}
BASE = "study/sizes"
STUDY = {
    name: file for name, file in find_configs().items() if name.startswith("study/") and name not in (*SWEEPS, BASE)
}
NAMED = {
    "study/flickr8k_study": {*STUDY, "experiment/distill"},
    "study/ablation_study": {"study/plus"},
    "study/tables_study": {"study/plus"},
    "study/paragraph_study": {"demo"},
}
ROWS = {name: file for name, file in STUDY.items() if name not in BASELINES}


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory):
    """A tiny Flickr tree, a tokenizer, and what fitting would have made of each space."""
    folder = tmp_path_factory.mktemp("study")
    tiny_text_space().save_fit(folder / "text.safetensors")
    save_file(load_file(folder / "text.safetensors"), folder / "text.safetensors")  # for all layers: it tells none
    AnalogBitsLatentSpace(TOKENIZER, length=12).save_fit(folder / "bits.safetensors")
    (folder / "tokenizer.json").write_text(TOKENIZER)
    DocumentFrequencies.from_references([["a red circle"], ["a blue square"]]).save(folder / "frequencies.json.gz")
    counted(folder, width=8)
    return {"folder": folder, **karpathy_tree(folder)["init_args"]}


def by_cider(config):
    """Whether candidates are chosen by CIDEr-D."""
    return config.get("model.selector.utility") == "CiderUtility"


def flags(stand_ins, config):
    folder, bits = stand_ins["folder"], config["model.latent_space"] == "AnalogBitsLatentSpace"
    text = {"model": "null", "config": json.dumps(BERT), "layer": 1}
    values = {
        "model.image_encoder.model_name": "test_resnet",
        "model.image_encoder.checkpoint_path": "null",
        "model.image_encoder.model_kwargs": "null",
        "model.image_encoder.image_size": 32,
        **{f"model.latent_space.{name}": value for name, value in ({} if bits else text).items()},
        "model.latent_space.tokenizer": folder / "tokenizer.json",
        "model.latent_space.length": 12,
        "model.latent_space.fitted": folder / ("bits.safetensors" if bits else "text.safetensors"),
        "model.denoiser.hidden_width": 32,
        "model.denoiser.num_layers": 1,
        "model.denoiser.num_heads": 2,
        "model.denoiser.image_width": "null",
        **({"model.selector.utility.frequencies": folder / "frequencies.json.gz"} if by_cider(config) else {}),
        **counts(folder, config),
        "data.annotations": stand_ins["annotations"],
        "data.images": stand_ins["images"],
        "data.batch_size": 4,
        "trainer.accelerator": "cpu",
        "trainer.precision": "32-true",
        "trainer.max_steps": 1,
        "trainer.val_check_interval": 1,
        "trainer.limit_val_batches": 1,
        "trainer.logger": "CSVLogger",
        "trainer.log_every_n_steps": 1,
        "trainer.enable_model_summary": "false",
    }
    return [f"--{name}={value}" for name, value in values.items()]


@pytest.mark.parametrize("name", ROWS)
def test_a_recipe_trains_and_captions(cli, tmp_path, stand_ins, name):
    config = flatten(load(ROWS[name]))
    root = [f"--trainer.default_root_dir={tmp_path}", f"--trainer.logger.save_dir={tmp_path}"]
    done = cli("fit", "-c", ROWS[name], *flags(stand_ins, config), *root)
    assert done.code == 0, done.stderr
    assert len(json.loads((tmp_path / "results_val.json").read_text())) == 2
    (metrics,) = tmp_path.rglob("metrics.csv")
    assert "train/loss" in metrics.read_text()


@pytest.mark.parametrize("name", SWEEPS)
def test_the_sweep_names_every_recipe_and_prepares_what_they_load(cli, name, root, monkeypatch):
    monkeypatch.chdir(root)
    sweep = read_sweep(SWEEPS[name])
    named = {config.resolve() for row in sweep.rows for config in row.configs}
    assert named == {Path(str(find_configs()[config])).resolve() for config in NAMED[name]}
    assert {row.minutes for row in sweep.rows if row.teacher is None} == {sweep.rows[0].minutes}
    made = {str(step.makes) for step in sweep.prepare}
    for row in sweep.rows:
        options = row.definition()
        assert options.get("model.vocabulary", options.get("model.latent_space.fitted")) in made
        assert f"{options['data.features']}/test.json" in made
        (kept,) = [
            each
            for each in load(*row.configs)["trainer"]["callbacks"]
            if each["class_path"].endswith("ModelCheckpoint")
        ]
        assert not row.best or kept["init_args"].get("monitor") == "val/CIDEr-D", "best by which score?"
    done = cli("sweep", SWEEPS[name], "--dry-run")
    assert done.code == 0, done.stderr
    runs = sum(len(row.seeds) for row in sweep.rows)
    assert len(done.stdout.splitlines()) == len(sweep.prepare) + runs


SAME = (
    "model.image_encoder", "model.latent_space.layer", "model.denoiser.hidden_width", "model.denoiser.num_layers",
    "model.denoiser.num_heads", "data", "data.annotations", "trainer.precision", "data.batch_size",
)  # fmt: skip
"""What all recipes share, lest they be compared in something else."""


@pytest.mark.parametrize(("row", "experiment"), [("paper", "ladic_paper"), ("released", "ladic_released")])
def test_a_recipe_is_that_of_its_experiment(row, experiment):
    """Options of the model that the experiment has otherwise are those of the backbones and sizes alone."""
    ours, theirs = (flatten(load(find_configs()[name])) for name in (f"study/{row}", f"experiment/{experiment}"))
    for name in SAME:
        assert ours.get(name) == flatten(load(find_configs()[BASE])).get(name)
    other = {"model.latent_space.model", "model.latent_space.layer", "model.latent_space.length",
             "model.latent_space.fitted",
             "model.denoiser.hidden_width", "model.denoiser.num_layers", "model.denoiser.num_heads",
             "model.denoiser.ffn_width", "model.denoiser.projections", "model.denoiser.image_norm"}  # fmt: skip
    recipe = {
        name: value
        for name, value in theirs.items()
        if name.startswith("model.") and not name.startswith("model.image_encoder") and name not in other
    }
    assert {name: ours.get(name) for name in recipe} == recipe
