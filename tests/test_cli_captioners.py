"""Captioners chosen on the command line: trained, scored, reported and asked, on top of a diffusion's configuration."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_run import NEWEST_WORDS, TOKENIZER, error_line, picture, tiny_config, write_config

from ladic.baselines import AutoregressiveCaptioner
from ladic.captioner_base import Captioner
from ladic.checkpoints import read_checkpoint
from ladic.cli.captioner_choice import names_captioner, with_captioner
from ladic.cli.lightning_cli import OneLineParser, parse
from ladic.errors import UsageError
from ladic.rerank import MinimumBayesRiskSelector
from ladic.sweep.results import values_of

DECODER = {"hidden_width": 16, "num_layers": 1, "num_heads": 2, "dropout": 0.0}
WORDS = ["--model.length=12", *(f"--model.decoder.{name}={value}" for name, value in DECODER.items())]


def layered(folder: Path, name: str = "AutoregressiveCaptioner", **arguments: Any) -> Path:
    """A configuration of another captioner on top of the tiny one of the diffusion."""
    write_config(folder)
    (folder / "tokenizer.json").write_text(TOKENIZER)
    words = {"tokenizer": str(folder / "tokenizer.json"), "length": 12, "decoder": DECODER}
    model = {"class_path": name, "init_args": {**words, **arguments}}
    return write_config(folder, {"base": "tiny.yaml", "model": model}, "other.yaml")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of two steps, tested too; its configuration is ../other.yaml."""
    from ladic.cli.main import main

    folder = tmp_path_factory.mktemp("autoregressive")
    average = {"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.5}}
    config = layered(folder, beam_size=2, optimizer={"class_path": "ladic.muon.MuonAdamW", "init_args": {"lr": 0.01}})
    main(["fit", "-c", str(config), f"--trainer.callbacks+={json.dumps(average)}"])
    main(["test", "-c", str(config), "--ckpt_path", str(folder / "run"), "--model.beam_size=3"])
    return folder / "run"


def test_a_run_leaves_what_that_of_a_diffusion_leaves(run: Path) -> None:
    results = json.loads((run / "results_test.json").read_text())
    assert [entry["image_id"] for entry in results] == [f"test-{n:06d}" for n in range(4)]
    scores = json.loads((run / "scores_test.json").read_text())
    assert {"BLEU-4", "CIDEr-D"} <= set(scores["scores"])
    assert (scores["step"], scores["images"]) == (2, 4)
    assert 1 <= scores["nfe"] <= 11, "decoder steps, counted"
    assert scores["selection_nfe"] == 0
    assert scores["rows"] == 3, "decoder steps are those of each caption of the beam"
    assert values_of(scores)["nfe_per_image"] == 3 * scores["nfe"]
    assert scores["training"] == {
        "steps": 2,
        "minutes": pytest.approx(read_checkpoint(run)["callbacks"]["TrainingClock"]["seconds"] / 60, abs=1e-3),
        "global_batch": 8,
        "precision": "32-true",
    }
    assert 0 < scores["training"]["minutes"] < 5
    assert scores["eval_batch_size"] == 64
    assert scores["config"]["captioner"] == "ladic.baselines.autoregressive.AutoregressiveCaptioner"
    assert scores["config"]["settings"]["beam_size"] == 3, "a flag beats the checkpoint"
    curves = " ".join(file.read_text() for file in run.rglob("metrics.csv"))
    for name in (
        "train/loss",
        "train/token_accuracy",
        "val/loss",
        "val/token_accuracy",
        "val/CIDEr-D",
        "train/minutes",
    ):
        assert name in curves, name
    saved = yaml.safe_load(next(run.rglob("config.yaml")).read_text())["model"]
    assert saved["class_path"] == "ladic.AutoregressiveCaptioner"
    assert saved["init_args"]["image_encoder"]["class_path"] == "ladic.components.ConvEncoder"
    assert saved["init_args"]["image_encoder"]["init_args"]["channels"] == [8, 16], "kept from the diffusion's"


def test_a_checkpoint_alone_gives_the_captions_of_the_run(run: Path, cli: Any) -> None:
    model = Captioner.load_from_checkpoint(run)
    assert isinstance(model, AutoregressiveCaptioner)
    assert model.beam_size == 2
    config = run.parent / "other.yaml"
    assert cli("predict", "-c", config, f"--ckpt_path={run}", "--model.beam_size=3").code == 0
    said = json.loads((run / "predictions.json").read_text())
    assert said == json.loads((run / "results_test.json").read_text())


def test_the_commands_that_read_runs_read_it(run: Path, cli: Any, tmp_path: Path) -> None:
    done = cli("report", run, "-c", run.parent / "other.yaml", "--output", tmp_path / "report.html")
    assert done.code == 0, done.stderr
    page = (tmp_path / "report.html").read_text()
    assert "AutoregressiveCaptioner(" in page
    assert "beam_size=3" in page
    done = cli("score", run / "results_test.json", "--references", run / "references_test.json", "--metrics", "bleu")
    assert done.code == 0, done.stderr


def test_a_picture_is_captioned_with_its_beam(run: Path, cli: Any, tmp_path: Path) -> None:
    file = picture(tmp_path / "photo.jpg")
    asked = ["caption", file, "--checkpoint", run, "--json"]
    done = cli(*asked, "--num-candidates=4", "--rerank=mbr")
    assert done.code == 0, done.stderr
    chosen = json.loads(done.stdout)
    assert chosen["caption"] == MinimumBayesRiskSelector().select([chosen["candidates"]])[0]
    done = cli(*asked, "--num-candidates=4", "--num-captions=2", "--max-length=3")
    assert done.code == 0, done.stderr
    record = json.loads(done.stdout)
    assert len(record["captions"]) == 2
    assert record["captions"] == record["candidates"][:2]
    assert record["nfe"] <= 4, "three tokens and the end"


@pytest.mark.parametrize(
    ("command", "words", "complaint"),
    [
        ("caption", ["--num-steps=3"], "--num-steps: not for AutoregressiveCaptioner, which takes --num-candidates"),
        ("caption", ["--sampler=DDIMSampler"], "--sampler: not for AutoregressiveCaptioner"),
        ("caption", ["--guidance-scale=2"], "--guidance-scale: not for AutoregressiveCaptioner"),
        ("caption", ["--guidance-scale=0"], "--guidance-scale: not for AutoregressiveCaptioner"),
        ("caption", ["--compile"], "--compile: not for AutoregressiveCaptioner"),
        ("caption", ["--back-and-refine"], "--back-and-refine: not for AutoregressiveCaptioner"),
        ("caption", ["--seed=0"], "--seed: not for AutoregressiveCaptioner"),
        ("caption", ["--rerank=reconstruction"], "ReconstructionSelector: needs the model to choose"),
        ("caption", ["--max-length=30"], "train with --model.length=32"),
        ("trace", [], "holds a captioner of the class AutoregressiveCaptioner; this is for LatentDiffusionCaptioner"),
    ],
)
def test_what_only_a_diffusion_has_is_refused_by_name(
    run: Path, cli: Any, tmp_path: Path, command: str, words: list[str], complaint: str
) -> None:
    done = cli(command, picture(tmp_path / "photo.jpg"), "--checkpoint", run, *words)
    assert done.code == 2
    assert complaint in error_line(done.stderr)


def test_a_captioner_is_chosen_by_a_flag_alone(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(TOKENIZER)
    flags = ["--model=AutoregressiveCaptioner", f"--model.tokenizer={tmp_path / 'tokenizer.json'}", *WORDS]
    swapped = ["--model.image_encoder.channels=[4,8]", "--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.1"]
    done = cli("fit", "-c", write_config(tmp_path), *flags, *swapped)
    assert done.code == 0, done.stderr
    stored = read_checkpoint(tmp_path / "run")["ladic"]
    assert stored["captioner"].endswith(".AutoregressiveCaptioner")
    assert stored["components"]["image_encoder"]["init_args"]["channels"] == [4, 8]


@NEWEST_WORDS
@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--model=AutoregresiveCaptioner"], "no captioner called 'AutoregresiveCaptioner'; did you mean Autoreg"),
        (["--model=AutoregressiveCaptioner", "--model.beam_sise=2"], "--model.beam_sise: no such option"),
        (
            ["--model=AutoregressiveCaptioner", "--model.beam_size=two"],
            "--model.beam_size=two: it takes a whole number",
        ),
        (["--model=AutoregressiveCaptioner", "--model.length=12"], "--model.tokenizer: has to be given"),
    ],
)
def test_a_wrong_word_is_told(cli: Any, tmp_path: Path, words: list[str], complaint: str) -> None:
    done = cli("fit", "-c", write_config(tmp_path), *words)
    assert done.code == 2
    assert complaint in error_line(done.stderr)


def test_a_plain_model_is_still_the_diffusion(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    assert not names_captioner(["fit", "-c", str(config)])
    assert "class_path" not in parse(["-c", str(config)]).model
    named = parse(["-c", str(config), "--model=LatentDiffusionCaptioner", "--model.seed=5"]).model
    assert named.class_path == "ladic.LatentDiffusionCaptioner"
    assert named.init_args.seed == 5
    assert named.init_args.sampler.init_args.num_steps == 2, "the file's arguments are its"


def test_a_layer_without_a_class_is_of_the_one_below(tmp_path: Path) -> None:
    below = layered(tmp_path)
    above = write_config(tmp_path, {"base": "other.yaml", "model": {"beam_size": 7}}, "above.yaml")
    model = parse(["-c", str(above)]).model
    assert model.class_path.endswith(".AutoregressiveCaptioner")
    assert (model.init_args.beam_size, model.init_args.length) == (7, 12)
    words = ["fit", "-c", str(tmp_path / "tiny.yaml"), f"--config={below}"]
    text, named = with_captioner(words)[2:]
    assert yaml.safe_load(text)["model"]["class_path"] == "LatentDiffusionCaptioner"
    assert named == f"--config={below}", "as it was"


@pytest.mark.parametrize("flag", ["--model=AutoregressiveCaptioner", "--model.class_path=AutoregressiveCaptioner"])
def test_a_class_before_a_file_is_the_class_behind_it(tmp_path: Path, flag: str) -> None:
    config = ["-c", str(write_config(tmp_path))]
    (tmp_path / "tokenizer.json").write_text(TOKENIZER)
    rest = [f"--model.tokenizer={tmp_path / 'tokenizer.json'}", *WORDS]
    before, behind = parse([flag, *config, *rest]).model, parse([*config, flag, *rest]).model
    assert before.class_path == "ladic.AutoregressiveCaptioner"
    assert before.init_args.image_encoder.init_args.channels == (8, 16), "the file's"
    assert before == behind
    assert parse([flag, *rest, *config]).model == behind, "flags before the file stay"
    assert parse([*flag.split("="), *config, *rest]).model == behind, "as two words"


@NEWEST_WORDS
def test_a_class_before_a_file_that_names_another(tmp_path: Path) -> None:
    above = write_config(tmp_path, {"model": {"beam_sise": 7}}, "above.yaml")
    with pytest.raises(UsageError, match="beam_sise"):
        parse(["--model=AutoregressiveCaptioner", "-c", str(above)])
    model = parse(["--model=LatentDiffusionCaptioner", "-c", str(layered(tmp_path, beam_size=4))]).model
    assert model.class_path.endswith(".AutoregressiveCaptioner")
    assert model.init_args.beam_size == 4


def test_what_is_typed_stays_whatever_it_ends_in(tmp_path: Path) -> None:
    folder = str(tmp_path / "lr=None")
    words = ["-c", str(layered(tmp_path)), "--model.image_encoder.weights=null"]
    config = parse([*words, f"--model.tokenizer={folder}", f"--trainer.default_root_dir={folder}"])
    assert config.model.init_args.image_encoder.init_args.weights is None
    assert (config.model.init_args.tokenizer, config.trainer.default_root_dir) == (folder, folder)
    parser = OneLineParser()
    parser.add_argument("--name", type=str)
    assert parser.parse_args(["--name=lr=None"]).name == "lr=None"
    named = parse([*words, f"--model.image_encoder.weights={folder}"])
    assert named.model.init_args.image_encoder.init_args.weights == folder


def test_configurations_of_two_captioners_side_by_side(cli: Any, tmp_path: Path) -> None:
    other = layered(tmp_path, beam_size=4)
    done = cli("configs", "diff", tmp_path / "tiny.yaml", other)
    assert done.code == 0, done.stderr
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()[1:]}
    assert rows["model"] == ["—", "AutoregressiveCaptioner"]
    assert rows["model.sampler"] == ["DDIMSampler", "—"]
    assert rows["model.beam_size"] == ["—", "4"]
    assert "model.image_encoder" not in rows


def test_commands_about_latents_say_that_there_are_none(cli: Any, tmp_path: Path) -> None:
    done = cli("fit-space", "-c", layered(tmp_path), "--output", tmp_path / "space.safetensors")
    assert done.code == 2
    assert "model: AutoregressiveCaptioner has no latent_space" in error_line(done.stderr)


def test_captioners_are_listed(cli: Any) -> None:
    shown = cli("components", "captioners").stdout
    assert "  AutoregressiveCaptioner " in shown
    assert "  LatentDiffusionCaptioner " in shown
    shown = cli("components", "captioner", "AutoregressiveCaptioner").stdout
    assert "--model=AutoregressiveCaptioner" in shown
    assert "Vaswani et al. 2017" in shown
    assert "beam_size: int = 3" in shown


def test_averaged_weights_and_a_stopped_run(run: Path, cli: Any, tmp_path: Path) -> None:
    """A run goes on from its checkpoint, whose weights are the averaged ones."""
    config = tiny_config(tmp_path)
    assert config["trainer"]["max_steps"] == 2
    root = [f"--trainer.default_root_dir={tmp_path / 'run'}", "--trainer.max_steps=3"]
    assert cli("fit", "-c", run.parent / "other.yaml", f"--ckpt_path={run}", *root).code == 0
    assert read_checkpoint(tmp_path / "run")["global_step"] == 3
    assert torch.isfinite(torch.stack([p.sum() for p in Captioner.load_from_checkpoint(run).parameters()])).all()
