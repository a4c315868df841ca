"""fit, validate, test and checkpoints, through the command line."""

import copy
import csv
import json
import logging
import threading

import pytest
import torch
import yaml
from tiny_run import error_line, tiny_config, write_config

import ladic.captioner
from ladic.captioner import LatentDiffusionCaptioner
from ladic.checkpoints import read_checkpoint
from ladic.cli.lightning_cli import built, parse, spec_of
from ladic.components.samplers import DDIMSampler, RenoiseSampler
from ladic.datamodules import CaptionDataModule
from ladic.guidance import ClassifierFreeGuidance
from ladic.spec import build


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path)


@pytest.fixture
def generations(monkeypatch):
    """What each call of ``generate`` was given."""
    seen = []
    real = ladic.captioner.generate

    def generate(*args, **kwargs):
        seen.append(kwargs)
        return real(*args, **kwargs)

    monkeypatch.setattr(ladic.captioner, "generate", generate)
    return seen


def rows(folder):
    files = sorted(folder.rglob("metrics.csv"), key=lambda file: file.stat().st_mtime)
    return [[row for row in csv.DictReader(file.open())] for file in files]


def test_help_names_the_options(cli):
    done = cli("fit", "--help")
    assert done.code == 0
    assert done.stdout.startswith("usage: ladic [options] fit")
    for option in ("--model.image_encoder", "--model.guidance.scale", "--data", "--trainer.max_steps", "--ckpt_path"):
        assert option in done.stdout


def test_print_config_resolves_every_class_and_can_be_used_again(cli, config, tmp_path):
    done = cli("fit", "-c", config, "--model.noise_schedule=ShiftedSchedule", "--print_config")
    assert (done.code, done.stderr) == (0, "")
    printed = yaml.safe_load(done.stdout)
    for part in ("image_encoder", "latent_space", "denoiser", "noise_schedule", "sampler"):
        assert printed["model"][part]["class_path"].startswith("ladic.components.")
    assert printed["model"]["sampler"]["init_args"] == {"num_steps": 2, "eta": 0.0, "spacing": "uniform"}
    assert printed["data"]["init_args"]["eval_batch_size"] == 64
    again = write_config(tmp_path, printed, "printed.yaml")
    assert cli("fit", "-c", again, "--print_config").stdout == done.stdout


def test_a_run_leaves_captions_scores_curves_and_its_configuration(trained):
    results = json.loads((trained / "results_val.json").read_text())
    assert [entry["image_id"] for entry in results] == [f"val-{n:06d}" for n in range(4)]
    assert all(isinstance(entry["caption"], str) for entry in results)
    scores = json.loads((trained / "scores_val.json").read_text())
    assert scores["images"] == 4
    assert scores["step"] == 2
    assert {"BLEU-4", "CIDEr-D"} <= set(scores["scores"])
    (run,) = rows(trained)
    logged = {name for row in run for name, value in row.items() if value}
    assert {"train/latent_loss", "train/caption_loss", "train/token_accuracy", "val/loss", "val/CIDEr-D"} <= logged
    assert "train/captions_per_second" in logged
    assert yaml.safe_load(next(trained.rglob("config.yaml")).read_text())["trainer"]["max_steps"] == 2


def test_the_control_scores_captions_of_other_images(trained):
    scores = json.loads((trained / "scores_val.json").read_text())["scores"]
    assert "CIDEr-D_shuffled" in scores
    assert any(row.get("val/CIDEr-D_shuffled") for row in rows(trained)[0])


def test_a_stopped_run_goes_on_where_it_was(cli, tmp_path, trained):
    config = write_config(tmp_path)
    before = read_checkpoint(trained / "last.ckpt")
    assert before["global_step"] == 2
    assert cli("fit", "-c", config, "--ckpt_path", trained / "last.ckpt", "--trainer.max_steps=4").code == 0
    (run,) = rows(tmp_path / "run")
    assert len([row for row in run if row["train/loss"]]) == 2  # two steps more, not four
    after = read_checkpoint(tmp_path / "run")
    assert after["global_step"] == 4
    assert after["optimizer_states"][0]["state"][0]["step"] == 4


def test_a_finished_run_given_again_changes_nothing(cli, tmp_path, trained):
    config = write_config(tmp_path)
    assert cli("fit", "-c", config, f"--ckpt_path={trained}").code == 0  # the folder of a run stands for its last.ckpt
    model = LatentDiffusionCaptioner.load_from_checkpoint(trained)
    assert not list((tmp_path / "run").rglob("*.ckpt")) or all(
        torch.equal(value, model.state_dict()[name])
        for name, value in read_checkpoint(tmp_path / "run")["state_dict"].items()
    )


def test_flags_beat_the_checkpoint_in_test(cli, trained, tmp_path, generations):
    config = write_config(tmp_path)
    flags = ["--model.sampler=RenoiseSampler", "--model.sampler.num_steps=3", "--model.guidance.scale=1.5"]
    done = cli("test", "-c", config, f"--ckpt_path={trained / 'last.ckpt'}", *flags, "--model.num_candidates=2")
    assert done.code == 0
    (used,) = generations
    assert isinstance(used["sampler"], RenoiseSampler)
    assert (used["sampler"].num_steps, used["guidance"].scale, used["num_candidates"]) == (3, 1.5, 2)
    stored = LatentDiffusionCaptioner.load_from_checkpoint(trained).state_dict()
    assert torch.equal(used["denoiser"].state_dict()["output.weight"], stored["denoiser.output.weight"])
    results = json.loads((tmp_path / "run" / "results_test.json").read_text())
    assert [entry["image_id"] for entry in results] == [f"test-{n:06d}" for n in range(4)]


def test_validate_and_predict_run_from_a_checkpoint(cli, trained, tmp_path):
    config = write_config(tmp_path)
    assert cli("predict", "-c", config, f"--ckpt_path={trained}").code == 0
    assert cli("validate", "-c", config, f"--ckpt_path={trained}").code == 0
    assert (tmp_path / "run" / "results_val.json").read_text() == (trained / "results_val.json").read_text()


@pytest.mark.parametrize("command", ["test", "validate", "predict"])
def test_random_weights_are_scored_only_where_that_is_asked_for(cli, tmp_path, command):
    config = write_config(tmp_path)
    for words in ([], ["--ckpt_path="]):
        told = error_line(cli(command, "-c", config, *words).stderr)
        assert told.startswith(f"--ckpt_path: not given, and `ladic {command}` would caption with random weights; ")
        assert "add --ckpt_path=RUN" in told
    assert not (tmp_path / "run").exists(), "nothing is written over"
    if command == "predict":
        assert cli(command, "-c", config, "--ckpt_path=null").code == 0


def test_a_checkpoint_may_stand_in_the_configuration(cli, tmp_path, trained):
    config = write_config(tmp_path, {**tiny_config(tmp_path), "ckpt_path": str(trained / "last.ckpt")})
    assert cli("predict", "-c", config).code == 0


def batch_of(trained, model):
    datamodule = build(spec_of(parse(["-c", str(trained.parent / "tiny.yaml")]).data), CaptionDataModule)
    datamodule.bind(model)
    datamodule.setup("validate")
    return next(iter(datamodule.val_dataloader()))


def test_a_runs_folder_stands_for_its_configuration_and_its_checkpoint(cli, trained):
    by_folder = cli("test", "-c", trained)
    folder = json.loads((trained / "results_test.json").read_text())
    config = next(trained.rglob("version_0/config.yaml"))
    assert cli("predict", "-c", trained).code == 0  # which writes a config.yaml of its own
    assert cli("test", "-c", config, f"--ckpt_path={trained}").code == 0
    assert cli("test", "-c", trained).code == 0
    assert by_folder.code == 0
    assert folder == json.loads((trained / "results_test.json").read_text())
    done = cli("score", trained, "--compare", trained, "--metrics=bleu")
    assert done.code == 0
    assert "B - A" in done.stdout
    named = cli("score", trained / "results_test.json", "--references", trained / "references_test.json")
    assert named.code == 0


def test_a_folder_without_a_run_is_told(cli, tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    told = error_line(cli("test", "-c", folder).stderr)
    assert "the folder has no config.yaml of a training; give a YAML file or a run" in told
    told = error_line(cli("score", folder).stderr)
    assert f"the folder has no references_test.json; `ladic test -c {folder}` writes it" in told
    (tmp_path / "results.json").write_text("[]")
    assert "--references: needed beside" in error_line(cli("score", tmp_path / "results.json").stderr)


def test_a_checkpoint_alone_gives_the_captions_of_the_run_to_the_bit(trained):
    first, second = (LatentDiffusionCaptioner.load_from_checkpoint(path) for path in (trained, trained / "last.ckpt"))
    batch = batch_of(trained, first)
    assert torch.equal(first.generate(batch).latents, second.generate(batch).latents)
    captions = [candidates[0] for candidates in second.generate(batch).candidates]
    results = json.loads((trained / "results_val.json").read_text())
    assert captions == [entry["caption"] for entry in results]
    assert not first.training


def test_parts_can_be_replaced_when_a_checkpoint_is_loaded(trained):
    model = LatentDiffusionCaptioner.load_from_checkpoint(
        trained, sampler=RenoiseSampler(1), guidance=ClassifierFreeGuidance(1.0), seed=7
    )
    assert (model.sampler.num_steps, model.guidance.scale, model.seed) == (1, 1.0, 7)
    assert model.generate(batch_of(trained, model)).nfe == 1
    assert isinstance(LatentDiffusionCaptioner.load_from_checkpoint(trained).sampler, DDIMSampler)


def test_a_checkpoint_needs_no_file_of_its_training(cli, tmp_path, trained):
    moved = tmp_path / "moved.ckpt"
    moved.write_bytes((trained / "last.ckpt").read_bytes())
    text = json.dumps(read_checkpoint(moved)["ladic"], default=str)
    assert str(trained.parent) not in text  # neither statistics nor folders are named in it
    LatentDiffusionCaptioner.load_from_checkpoint(moved)


def test_the_truth_of_captions_is_counted_where_the_data_can_tell(cli, config, tmp_path):
    assert cli("fit", "-c", config, "--trainer.callbacks+=ladic.callbacks.TruthEvaluation").code == 0
    (run,) = rows(tmp_path / "run")
    shares = [
        float(row[f"val/{name}"]) for row in run for name in ("wholly_true", "objects_named") if row[f"val/{name}"]
    ]
    assert len(shares) == 2
    assert all(0 <= share <= 1 for share in shares)


def test_training_can_be_averaged_clipped_and_run_in_bf16(cli, config, tmp_path):
    average = "--trainer.callbacks+=lightning.pytorch.callbacks.EMAWeightAveraging"
    flags = ["--trainer.gradient_clip_val=1", "--trainer.precision=bf16-mixed", "--model.noise_draws=2", average]
    assert cli("fit", "-c", config, *flags).code == 0
    LatentDiffusionCaptioner.load_from_checkpoint(tmp_path / "run")


def test_a_paragraph_run_has_one_reference_each(cli, tmp_path):
    config = tiny_config(tmp_path)
    config["data"]["init_args"]["paragraphs"] = True
    config["model"]["latent_space"]["init_args"]["length"] = 60
    assert cli("fit", "-c", write_config(tmp_path, config)).code == 0


def test_libraries_give_no_advice(cli, config, recwarn):
    said = []

    class Collect(logging.Handler):
        def emit(self, record):
            said.append(record.getMessage())

    collect = Collect()
    loggers = [logging.getLogger("lightning.pytorch"), logging.getLogger("lightning.fabric")]
    for logger in loggers:
        logger.addHandler(collect)
    try:
        assert cli("fit", "-c", config).code == 0
    finally:
        for logger in loggers:
            logger.removeHandler(collect)
    said += [str(warning.message) for warning in recwarn]
    for advice in ("Tip:", "args parameter", "eval mode", "tensorboard", "workers", "Seed set to", "weights_only"):
        assert [line for line in said if advice in line] == []


def test_the_last_step_is_kept_wherever_it_lies_between_validations(cli, config, tmp_path):
    flags = ["--trainer.max_steps=3", "--trainer.val_check_interval=2", "--trainer.check_val_every_n_epoch=null"]
    root = f"--trainer.default_root_dir={tmp_path / 'run'}"
    saver = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"save_last": True}}
    assert cli("fit", "-c", config, root, *flags, f"--trainer.callbacks=[{json.dumps(saver)}]").code == 0
    assert read_checkpoint(tmp_path / "run")["global_step"] == 3


@pytest.mark.parametrize("optimizer", ["AdamW", "ladic.muon.MuonAdamW"])
def test_a_copy_of_the_model_copies_nothing_of_the_run_around_it(tmp_path, optimizer):
    """Averaging of weights makes one, after the trainer may have started other ranks."""
    flags = [f"--model.optimizer={optimizer}", "--trainer.devices=2", "--trainer.strategy=ddp"]
    run = built(["-c", str(write_config(tmp_path)), *flags])
    run.trainer.lock = threading.Lock()  # as the processes of other ranks have; it can't be copied
    copied = copy.deepcopy(run.model)
    assert copied.optimizer is run.model.optimizer
    assert all(torch.equal(a, b) for a, b in zip(copied.parameters(), run.model.parameters(), strict=True))
