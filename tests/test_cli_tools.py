"""The commands around training, each end to end at a tiny size: pretrain, fit-space, cache-features, report, demo."""

import csv
import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_run import NEWEST_WORDS, error_line, karpathy_tree, tiny_config, write_config, write_json

import ladic.cli.demo
from ladic.captioner import LatentDiffusionCaptioner
from ladic.components import BertLatentSpace, ConvEncoder
from ladic.datamodules import ShapesDataModule
from ladic.testing import tiny_text_space


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path)


# pretrain-text

TEXT = ["--steps=3", "--hidden-size=16", "--layers=2", "--heads=2", "--batch-size=8", "--vocabulary=200", "--length=16"]


def test_a_text_model_from_captions_loads_as_a_latent_space(cli, config, tmp_path):
    folder = tmp_path / "text"
    done = cli("pretrain-text", "-c", config, "--output", folder, *TEXT)
    assert done.code == 0
    assert f"wrote {folder}" in done.stdout
    space = BertLatentSpace(str(folder), layer=1, length=12)
    tokens = space.tokenize(["a big red circle"])
    assert space.to_text(space.targets(tokens.input_ids, tokens.attention_mask)) == ["a big red circle"]
    assert space.trained_head  # the masked-LM head came along
    assert space.tokenizer.unk_token_id not in tokens.input_ids


def test_text_pretraining_repeats_itself(cli, config, tmp_path):
    for name in ("one", "two"):
        cli("pretrain-text", "-c", config, "--output", tmp_path / name, *TEXT)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)


@NEWEST_WORDS
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--hidden-size=30", "--heads=4"], "--hidden-size 30: must divide by --heads 4"),
        (["--mask=1.5"], "--mask 1.5: a share lies between 0 and 1"),
        (["--", "--data.num_trian=3"], "--data.num_trian: no such option; did you mean --data.num_train?"),
    ],
)
def test_wrong_words_for_text_pretraining(cli, config, tmp_path, words, message):
    done = cli("pretrain-text", "-c", config, "--output", tmp_path / "text", *words)
    assert (done.code, error_line(done.stderr)) == (2, message)


# pretrain-image


def test_an_image_encoder_from_captions_loads_with_its_weights(cli, config, tmp_path):
    file = tmp_path / "encoder.safetensors"
    done = cli("pretrain-image", "-c", config, "--output", file, "--steps=3", "--batch-size=8", "--least=0.2")
    assert done.code == 0
    assert f"--model.image_encoder.weights={file}" in done.stdout
    init_args = tiny_config(tmp_path)["model"]["image_encoder"]["init_args"]
    encoder = ConvEncoder(**init_args, weights=str(file))
    stored = load_file(file)
    assert all(torch.equal(value, stored[name].float()) for name, value in encoder.state_dict().items())
    assert cli("fit", "-c", config, f"--model.image_encoder.weights={file}").code == 0
    again = LatentDiffusionCaptioner.load_from_checkpoint(tmp_path / "run").image_encoder
    assert torch.equal(again.positions, encoder.positions)


def test_broken_pictures_are_left_out_of_what_is_fitted_on_the_rest(cli, tmp_path):
    data = karpathy_tree(tmp_path)
    content = json.loads((tmp_path / "dataset.json").read_text())
    for number, entry in enumerate(content["images"]):  # phrases that are in some pictures
        entry["sentences"] = [{"raw": ("a red dog", "a blue cat")[number % 2]}]
    write_json(tmp_path / "dataset.json", content)
    config = write_config(tmp_path, {**tiny_config(tmp_path), "data": data})
    (tmp_path / "images" / "train_3.jpg").write_bytes(b"")
    features, skip = tmp_path / "features", ["--", "--data.skip_broken=0.2"]
    assert cli("cache-features", "-c", config, "--output", features, *skip).code == 0
    commands = {
        "pretrain-image": ["--steps=1", "--batch-size=8"],
        "fit-phrases": ["--steps=1"],
        "fit-words": ["--least=1"],
    }
    for name, few in commands.items():
        words = [name, "-c", config, "--output", tmp_path / f"{name}.safetensors", *few]
        for cached in [[]] if name == "pretrain-image" else [[], [f"--data.features={features}"]]:
            with pytest.warns(UserWarning, match="1 of 8 pictures of train are broken .* they are left out"):
                done = cli(*words, *skip, *cached)
            assert done.code == 0, done.stderr
            assert f"{name}: 7 pictures" in done.stdout


def test_weights_that_do_not_fit_the_encoder(cli, config, tmp_path):
    gone = cli("fit", "-c", config, "--model.image_encoder.weights=gone.safetensors")
    assert "weights='gone.safetensors': no such file" in error_line(gone.stderr)
    file = tmp_path / "encoder.safetensors"
    cli("pretrain-image", "-c", config, "--output", file, "--steps=1", "--batch-size=2", "--least=0.2")
    other = cli("fit", "-c", config, f"--model.image_encoder.weights={file}", "--model.image_encoder.image_size=64")
    assert "made for other sizes" in error_line(other.stderr)
    named = cli("pretrain-image", "-c", config, "--output", tmp_path / "encoder.pt")
    assert error_line(named.stderr).endswith("the name must end in .safetensors")


# fit-space


def test_fitting_a_space_gives_its_statistics_and_reports_reconstruction(cli, config, tmp_path):
    file = tmp_path / "fitted.safetensors"
    done = cli("fit-space", "-c", config, "--output", file, "--head-steps=3", "--batch-size=8", "--restrict-vocabulary")
    assert done.code == 0
    assert re.search(r"0: [\d.]+ %   0.25: [\d.]+ %", done.stdout)
    with safe_open(file, "pt") as stored:
        assert set(stored.metadata()) == {
            "layer",
            *(f"accuracy_at_noise_{level}" for level in (0.0, 0.25, 0.5, 0.75, 1.0)),
        }
    space = tiny_text_space(fitted=str(file))
    assert space.vocabulary_size < tiny_text_space().vocabulary_size
    assert cli("fit", "-c", config, f"--model.latent_space.fitted={file}").code == 0
    stored = load_file(file)
    trained = LatentDiffusionCaptioner.load_from_checkpoint(tmp_path / "run").latent_space
    assert torch.equal(trained.normalizer.mean, stored["normalizer.mean"])
    assert torch.equal(trained.head.vocabulary, stored["head.vocabulary"])


def test_a_space_is_fitted_on_a_device_that_there_is(cli, config, tmp_path):
    done = cli("fit-space", "-c", config, "--output", tmp_path / "a.safetensors", "--device=abacus")
    assert "--device abacus: " in error_line(done.stderr)


def test_statistics_are_those_of_ordinary_words_or_of_all(cli, config, tmp_path):
    words = ["--captions=20", "--head-steps=0"]
    for name in ("drop", "keep"):
        file = tmp_path / f"{name}.safetensors"
        assert cli("fit-space", "-c", config, "--output", file, f"--specials={name}", *words).code == 0
    drop, keep = (load_file(tmp_path / f"{name}.safetensors")["normalizer.mean"] for name in ("drop", "keep"))
    assert not torch.allclose(drop, keep, atol=1e-3)


def test_a_fitted_space_has_latents_of_mean_zero_and_deviation_one(cli, config, tmp_path):
    file = tmp_path / "fitted.safetensors"
    flags = ["--data.num_train=4"]
    assert cli("fit-space", "-c", config, "--output", file, "--head-steps=0", "--", *flags).code == 0
    torch.manual_seed(0)  # the command's: this text model has random weights
    space = BertLatentSpace(**{**tiny_config(tmp_path)["model"]["latent_space"]["init_args"], "fitted": str(file)})
    tokens = space.tokenize(ShapesDataModule(num_train=4).train_captions())
    latents = space.encode(tokens.input_ids, tokens.attention_mask)
    ordinary = latents[~space.special_positions(tokens.input_ids, tokens.attention_mask)]
    torch.testing.assert_close(ordinary.mean(0), torch.zeros(space.width), atol=1e-4, rtol=0)
    torch.testing.assert_close(ordinary.std(0), torch.ones(space.width), atol=1e-3, rtol=0)


def test_the_statistics_file_has_to_be_named_for_its_format(cli, config, tmp_path):
    done = cli("fit-space", "-c", config, "--output", tmp_path / "space.pt")
    assert error_line(done.stderr).endswith("the name must end in .safetensors")


# cache-features


def losses(folder):
    with next(folder.rglob("metrics.csv")).open() as lines:
        rows = list(csv.DictReader(lines))
    return [float(row[name]) for row in rows for name in ("train/loss", "val/loss") if row[name]]


def test_cached_features_train_like_the_encoder(cli, config, tmp_path):
    features = tmp_path / "features"
    done = cli("cache-features", "-c", config, "--output", features, "--splits=train,val,test", "--batch-size=5")
    assert done.code == 0
    assert f"train with --data.features={features}" in done.stdout
    runs = {}
    for name, flags in {"encoder": [], "cache": [f"--data.features={features}"]}.items():
        root = f"--trainer.default_root_dir={tmp_path / name}"
        saver = "--trainer.callbacks=[{class_path: ladic.callbacks.CaptionEvaluation}]"
        assert cli("fit", "-c", config, root, saver, *flags).code == 0
        runs[name] = losses(tmp_path / name)
    assert len(runs["cache"]) == 3
    torch.testing.assert_close(torch.tensor(runs["cache"]), torch.tensor(runs["encoder"]), atol=1e-3, rtol=1e-3)
    results = [(tmp_path / name / "results_val.json").read_text() for name in runs]
    assert [entry["image_id"] for entry in json.loads(results[1])] == [e["image_id"] for e in json.loads(results[0])]


def test_cached_features_of_real_photographs_train_like_their_encoder(cli, tmp_path, shared):
    """Flickr8k through an ImageNet MobileNetV2, as ``configs/flickr8k.yaml`` has it."""
    settings = yaml.safe_load(Path("configs/flickr8k.yaml").read_text("utf-8"))
    config = tiny_config(tmp_path)
    config["model"]["image_encoder"] = settings["model"]["image_encoder"]
    config["model"]["image_encoder"]["init_args"]["checkpoint_path"] = str(
        next((shared / "weights").glob("mobilenetv2*"))
    )
    flickr = shared / "data" / "flickr8k"
    config["data"] = {
        "class_path": "KarpathyDataModule",
        "init_args": {
            "annotations": str(flickr / "dataset_flickr8k.json"), "images": str(flickr / "images"), "unit": "image",
            "batch_size": 8, "limit_train": 16, "limit_eval": 4,
        },
    }  # fmt: skip
    config["trainer"]["callbacks"] = []
    config["trainer"] |= {"max_epochs": 1, "max_steps": -1, "enable_checkpointing": False}
    file, features = write_config(tmp_path, config), tmp_path / "features"
    assert cli("cache-features", "-c", file, "--output", features, "--splits=train,val").code == 0
    runs = {}
    for name, flags in {"encoder": [], "cache": [f"--data.features={features}"]}.items():
        assert cli("fit", "-c", file, f"--trainer.default_root_dir={tmp_path / name}", *flags).code == 0
        runs[name] = losses(tmp_path / name)
    assert len(runs["cache"]) == 3
    torch.testing.assert_close(torch.tensor(runs["cache"]), torch.tensor(runs["encoder"]), atol=1e-3, rtol=0)


def test_a_stopped_cache_goes_on(cli, config, tmp_path, monkeypatch):
    four = 4 * 64 * 16 * 2 / 2**20  # pictures in a file
    words = ["cache-features", "-c", config, "--batch-size=4", f"--file-megabytes={four}", "--output"]
    assert cli(*words, tmp_path / "whole").code == 0
    encode, calls = ConvEncoder.encode, []

    def stop(self, images):
        calls.append(len(images))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(self, images)

    torch.manual_seed(0)
    with monkeypatch.context() as patch:
        patch.setattr(ConvEncoder, "encode", stop)
        assert cli(*words, tmp_path / "stopped").code == 130
    refused = cli("fit", "-c", config, f"--data.features={tmp_path / 'stopped'}")
    assert "train has 2 of 4 files" in error_line(refused.stderr)
    assert cli(*words, tmp_path / "stopped").code == 0
    whole, stopped = (
        {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("whole", "stopped")
    )
    assert whole == stopped
    assert "train-00003.npy" in whole


def test_a_cache_of_something_else_is_refused(cli, config, tmp_path):
    features = f"--data.features={tmp_path / 'features'}"
    assert cli("cache-features", "-c", config, "--output", tmp_path / "features").code == 0
    other = cli("fit", "-c", config, features, "--seed_everything=1")  # random weights, drawn anew
    assert "made with weights_sha256" in error_line(other.stderr)
    size = cli("fit", "-c", config, features, "--model.image_encoder.image_size=64")
    assert "make it again with `ladic cache-features`" in error_line(size.stderr)
    more = cli("fit", "-c", config, features, "--data.num_train=20")
    assert "4 images of train are not in it, the first is 'train-000016'" in error_line(more.stderr)
    test = cli("test", "-c", config, features, "--ckpt_path=null")
    assert "test.json is missing" in error_line(test.stderr)
    again = cli("cache-features", "-c", config, "--output", tmp_path / "features", "--", "--seed_everything=1")
    assert "--overwrite to remove that one" in error_line(again.stderr)
    clash = cli("cache-features", "-c", config, "--output", tmp_path / "x", "--views=3")
    assert "--views 3 with data.augment='none'" in error_line(clash.stderr)
    trained = cli("fit", "-c", config, features, "--model.image_encoder.frozen=false")
    assert "can't be cached" in error_line(trained.stderr)


def test_wrong_words_for_the_cache(cli, config, tmp_path):
    words = ["cache-features", "-c", config, "--output", tmp_path / "features"]
    assert "accepted are train, val and test" in error_line(cli(*words, "--splits=train,dev").stderr)
    frozen = cli(*words, "--", "--model.image_encoder.frozen=false")
    assert "it is trained (frozen=False)" in error_line(frozen.stderr)


# demo


@pytest.fixture
def tiny_demo(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ladic.cli.demo, "TEXT", TEXT)
    monkeypatch.setattr(ladic.cli.demo, "SPACE", ["--captions=40", "--head-steps=2", "--batch-size=8"])
    return [
        "--model.latent_space.layer=1",
        "--model.latent_space.length=12",
        "--model.denoiser.hidden_width=16",
        "--model.denoiser.num_heads=2",
        "--model.denoiser.num_layers=1",
        "--model.num_candidates=2",
        "--data.num_train=16",
        "--data.num_eval=4",
        "--data.batch_size=8",
        "--trainer.max_steps=2",
        "--trainer.val_check_interval=1",
        "--trainer.log_every_n_steps=1",
        "--trainer.enable_progress_bar=false",
    ]


def test_the_demo_goes_from_nothing_to_a_report_and_can_be_run_again(cli, tiny_demo, tmp_path):
    output = tmp_path / "out"
    done = cli("demo", "--output", output, "--", *tiny_demo)
    assert done.code == 0, done.stderr
    commands = re.findall(r"^\$ ladic ([\w-]+)", done.stdout, re.MULTILINE)
    assert [name for name in commands if name != "pretrain-image"] == [
        "pretrain-text", "fit-space", "cache-features", "fit", "test", "report",
    ]  # fmt: skip
    assert f"The report: {output / 'report.html'}" in done.stdout
    html = (output / "report.html").read_text()
    assert "wholly_true" in html
    assert html.count('class="card small"') == 4
    assert not list(Path.cwd().glob("lightning_logs"))
    scores = json.loads((output / "scores_test.json").read_text())
    assert scores["images"] == 4
    seconds = json.loads((output / "seconds.json").read_text())
    assert list(seconds) == commands
    again = cli("demo", "--output", output, "--", *tiny_demo)
    assert again.code == 0, again.stderr
    assert again.stdout.count("is there already: skipped") >= 2
    later = json.loads((output / "seconds.json").read_text())
    assert {name: later[name] for name in ("pretrain-text", "fit-space")} == {
        name: seconds[name] for name in ("pretrain-text", "fit-space")
    }, "what an earlier sitting took is kept"


@NEWEST_WORDS
def test_a_wrong_flag_stops_the_demo_before_any_work(cli, tiny_demo, tmp_path):
    done = cli("demo", "--output", tmp_path / "out", "--", *tiny_demo, "--model.sampler.num_stepz=3")
    assert done.code == 2
    assert error_line(done.stderr).startswith("--model.sampler.num_stepz: no such option")
    assert not (tmp_path / "out").exists()


def test_one_caption_is_too_few_for_a_head(cli, tmp_path):
    words = ["--output", tmp_path / "s.safetensors", "--captions=1", "--head-steps=2"]
    done = cli("fit-space", "-c", write_config(tmp_path), *words)
    assert done.code == 2
    assert "1 caption: one is held out, so training the head needs two" in done.stderr
