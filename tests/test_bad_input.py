"""Wrong input of every kind: one line that names the option and what to do, exit code 2, no traceback."""

import json

import pytest
from tiny_run import (
    BERT,
    NEWEST_WORDS,
    TOKENIZER,
    error_line,
    karpathy_data,
    karpathy_entry,
    karpathy_tree,
    tiny_config,
    write_config,
)

from ladic.components.latent_spaces.backbone import load_tokenizer
from ladic.errors import UsageError
from ladic.plugins import KINDS


@pytest.fixture
def fit(cli, tmp_path):
    """The complaint of ``ladic fit`` over the tiny configuration, changed by flags or before it is written."""

    def run(*flags, change=None):
        config = tiny_config(tmp_path)
        if change is not None:
            change(config)
        done = cli("fit", "-c", write_config(tmp_path, config), *flags)
        assert done.code == 2, done
        assert done.stdout == "" or done.stdout.startswith("effective batch")
        return error_line(done.stderr)

    return run


TYPOS = {
    "image_encoders": ("TimEncoder", "TimmEncoder"),
    "latent_spaces": ("BertSpace", "BertLatentSpace"),
    "denoisers": ("CrossAtention", "CrossAttentionDenoiser"),
    "noise_schedules": ("CosinSchedule", "CosineSchedule"),
    "samplers": ("ddim", "DDIMSampler"),
    "selectors": ("BayesRiskSelector", "MinimumBayesRiskSelector"),
    "roundings": ("NgrammRounding", "NgramRounding"),
    "postprocessors": ("CleanCaptions", "CleanCaption"),
    "time_samplings": ("UniformTime", "UniformTimes"),
    "datamodules": ("Shapes", "ShapesDataModule"),
    "captioners": ("AutoregresiveCaptioner", "AutoregressiveCaptioner"),
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_an_unknown_component_is_told_with_the_nearest(fit, kind):
    typed, meant = TYPOS[kind.name]
    assert fit(f"{kind.flag}={typed}") == f"{kind.flag}: no {kind.label} called '{typed}'; did you mean {meant}?"


@NEWEST_WORDS
@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--model.sampler=Zebra", "--model.sampler: no sampler called 'Zebra'; there are: "),
        (
            "--model.image_encoder=DDIMSampler",
            "--model.image_encoder: no image encoder called 'DDIMSampler'; there are",
        ),
        ("--model.image_encoder=ladic.components.TimEncoder", "did you mean TimmEncoder?"),
        ("--model.image_encoder=mine.Encodings", "(No module named 'mine')"),
        ("--model.sampler=Sampler", "--model.sampler: choose one of "),
        ("--model.selector.max_order=2", "--model.selector: choose one of "),
        ("--trainer.callbacks+=CaptionEval", "--trainer.callbacks: no callback called 'CaptionEval'; did you mean"),
        ("--model.optimizer=AdamWW", "--model.optimizer: no optimizer called 'AdamWW'; did you mean AdamW?"),
        ("--model.imag_encoder=X", "--model.imag_encoder: no such option; did you mean --model.image_encoder?"),
        (
            "--model.sampler.num_stepz=3",
            "--model.sampler.num_stepz: no such option; did you mean --model.sampler.num_steps?",
        ),
        ("--data.batchsize=3", "--data.batchsize: no such option; did you mean --data.batch_size?"),
        ("--model.guidance.scal=2", "--model.guidance.scal: no such option; did you mean --model.guidance.scale?"),
        ("--modle.seed=3", "--modle.seed: no such option; did you mean --model.seed?"),
        ("--trainer.max_step=3", "--trainer.max_step: no such option; did you mean --trainer.max_steps?"),
        ("--zebra=1", "--zebra: no such option; `ladic fit --help` lists the options"),
        ("word", "'word': not an option"),
        ("--data.batch_size=abc", "--data.batch_size=abc: it takes a whole number"),
        ("--data.batch_size=0", "data.batch_size=0: need at least 1"),
        ("--model.num_candidates=x", "--model.num_candidates=x: it takes a whole number"),
        ("--model.latent_loss=l1", "--model.latent_loss=l1: it takes 'l2' or 'mse'"),
        ("--data.unit=word", "--data.unit=word: it takes 'caption' or 'image'"),
        ("--trainer.max_epochs=abc", "--trainer.max_epochs=abc: it takes a whole number or null"),
        ("--trainer.accelerator=toaster", "trainer: You selected an invalid accelerator name: `accelerator='toaster'`"),
        ("--model.image_encoder=TimmEncoder", "--model.image_encoder.model_name: has to be given"),
        ("--data=KarpathyDataModule", "--data.annotations: has to be given, and so have --data.images"),
        ("--model.seed", "--model.seed: needs a value"),
        ("--model.noise_schedule.schedule=CosineSchedule", "--model.noise_schedule: choose one of "),
    ],
)
def test_a_wrong_flag_is_told_as_typed(fit, flag, message):
    line = fit(flag)
    assert message in line
    assert len(line) < 320


@NEWEST_WORDS
@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["model", "image_encoder", "class_path"], "TimEncoder", "no image encoder called 'TimEncoder'; did you mean"),
        (["model", "sampler", "class_path"], "CosineSchedule", "no sampler called 'CosineSchedule'"),
        (["model", "sampler", "init_args", "steps"], 1, "--model.sampler.steps: no such option; did you mean"),
        (["model", "denoiser", "init_args", "hidden_width"], "wide", "--model.denoiser.hidden_width=wide: it takes"),
        (["model", "imag_encoder"], 1, "--model.imag_encoder: no such option; did you mean --model.image_encoder?"),
        (["modl"], {"x": 1}, "no such option; did you mean --model?"),
        (["trainer", "callbacks", 0, "init_args", "contrl"], True, "--trainer.callbacks.contrl: no such option; did"),
        (["model", "noise_schedule"], {"class_path": "ShiftedSchedule", "init_args": {"schedule": {"class_path": "X"}}},
         "--model.noise_schedule.schedule: no noise schedule called 'X'"),
    ],
)  # fmt: skip
def test_a_wrong_line_of_a_configuration_is_told_as_its_flag(fit, path, value, message):
    def change(config):
        for key in path[:-1]:
            config = config[key]
        config[path[-1]] = value

    assert message in fit(change=change)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file; give a YAML file, `ladic configs` lists the shipped ones"),
        ("model: [\n", "--config: not YAML"),
        ("- a\n- b\n", "--config: the file begins with '- a b'"),
        ("", "--config: the file is empty"),
    ],
)
def test_a_configuration_that_is_none(cli, tmp_path, text, message):
    file = tmp_path / "x.yaml"
    if text is not None:
        file.write_text(text)
    done = cli("fit", "-c", file)
    assert done.code == 2
    assert message in error_line(done.stderr)


@pytest.mark.parametrize("based", [False, True])
def test_a_configuration_that_is_not_utf8(cli, tmp_path, based):
    file, top = tmp_path / "latin1.yaml", tmp_path / "top.yaml"
    file.write_bytes("# café\nseed_everything: 1\n".encode("latin-1"))
    top.write_text("base: latin1.yaml\n")
    line = error_line(cli("fit", "-c", top if based else file).stderr)
    assert line == f"--config: '{file}' is not UTF-8 text (invalid continuation byte at byte 5); save it as UTF-8"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.txt", b"caf\xe9\n", "': not UTF-8 text (invalid continuation byte at byte 3); save it as UTF-8"),
        ("tokenizer.json", b'{"x": "caf\xe9"}', "': not UTF-8 text"),
        ("tokenizer.json", b'{"x": 1}', "': not a tokenizer.json ("),
        ("tokenizer.json", b"[]", "': not a tokenizer.json ("),
        ("tokenizer.json", b"", "': not a tokenizer.json ("),
    ],
)
def test_a_tokenizer_that_is_none(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError) as told:
        load_tokenizer(str(tmp_path / name))
    assert f"tokenizer='{tmp_path / name}{message}" in str(told.value)
    assert "\n" not in str(told.value)


def test_a_folder_with_a_damaged_tokenizer(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "tokenizer.json").write_text('{"x": 1}')
    with pytest.raises(UsageError, match="can't be loaded"):
        load_tokenizer(str(tmp_path))


@NEWEST_WORDS
def test_nothing_given_names_what_is_needed(cli):
    line = error_line(cli("fit").stderr)
    assert line.startswith("--model.image_encoder: has to be given, and so have --model.latent_space and --data")
    assert "`ladic configs`" in line


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model.sampler.num_steps=0"], "num_steps=0: a sampler needs at least one step"),
        (
            [
                "--model.noise_schedule=LinearSchedule",
                "--model.noise_schedule.num_steps=5",
                "--model.sampler.num_steps=6",
            ],
            "num_steps=6: the noise schedule is a table of 5 entries; take at most as many",
        ),
        (["--model.latent_space.layer=9"], "layer=9: the model has 3 layers, accepted are 1 to 3"),
        (["--model.denoiser.num_heads=3"], "hidden_width=16, num_heads=3"),
        (["--model.lr_schedule.warmup=7"], "lr_schedule warmup=7.0"),
        (["--model.image_encoder=TimmEncoder", "--model.image_encoder.model_name=resnet9000"], "near it: cspresnet50"),
        (["--model.noise_schedule=ShiftedSchedule", "--model.noise_schedule.factor=-1"], "factor=-1.0"),
        (["--model.latent_space.fitted=gone.safetensors"], "make it with `ladic fit-space"),
        (["--model.latent_space.fitted=null"], "give --model.latent_space.fitted=FILE"),
        (["--data=ShapesDataModule", "--data.num_train=0"], "num_scenes=0"),
        (["--data.features=gone"], "make the cache with `ladic cache-features"),
    ],
)
def test_what_a_component_refuses_reaches_the_user(fit, flags, message):
    assert message in fit(*flags)


@pytest.mark.parametrize(
    ("flags", "files"),
    [
        (["--model.latent_space.config=null", "--model.latent_space.model=bert-base-uncased"], "tokenizer.json"),
        (["--model.latent_space.tokenizer=bert-base-uncased"], "tokenizer.json"),
        (
            ["--model.image_encoder=HFVisionEncoder", "--model.image_encoder.model=openai/clip-vit-base-patch32"],
            "config.json",
        ),
    ],
)
def test_a_model_that_cannot_be_reached_says_what_to_download_and_where_to_put_it(fit, flags, files):
    line = fit(*flags)
    assert "can't be loaded" in line
    assert "download config.json" in line
    assert files in line
    assert "into a folder and give that folder" in line


def test_timm_weights_that_cannot_be_reached(fit):
    name = "--model.image_encoder.model_name=resnet10t"
    line = fit("--model.image_encoder=TimmEncoder", name, "--model.image_encoder.pretrained=true")
    assert "give it as --model.image_encoder.checkpoint_path=FILE" in line


def test_weights_of_another_model(fit, tmp_path):
    (tmp_path / "broken.safetensors").write_text("hello")
    name = "--model.image_encoder.model_name=resnet10t"
    file = f"--model.image_encoder.checkpoint_path={tmp_path / 'broken.safetensors'}"
    assert "checkpoint_path=" in fit("--model.image_encoder=TimmEncoder", name, file)


def test_broken_statistics(fit, tmp_path):
    (tmp_path / "broken.safetensors").write_text("hello")
    assert "not a safetensors file" in fit(f"--model.latent_space.fitted={tmp_path / 'broken.safetensors'}")


def test_statistics_of_another_space(fit):
    def change(config):
        config["model"]["latent_space"]["init_args"]["config"] = {**BERT, "hidden_size": 16}

    assert "fitted for a space of width 32, this one has 16" in fit(change=change)


@pytest.mark.parametrize("subcommand", ["fit", "test"])
def test_a_checkpoint_of_other_sizes(cli, tmp_path, trained, subcommand):
    config = write_config(tmp_path)
    done = cli(subcommand, "-c", config, f"--ckpt_path={trained}", "--model.denoiser.hidden_width=32")
    assert done.code == 2
    line = error_line(done.stderr)
    assert line.startswith("checkpoint: made by a model of other sizes")
    assert "denoiser.positions (12, 16) where the model has (12, 32)" in line


@pytest.mark.parametrize("content", [None, b"hello", b"PK\x03\x04 cut off"])
def test_a_checkpoint_that_is_none(fit, tmp_path, content):
    file = tmp_path / "x.ckpt"
    if content is not None:
        file.write_bytes(content)
    assert fit(f"--ckpt_path={file}").startswith(f"checkpoint '{file}': ")


def with_data(data):
    def change(config):
        config["data"] = data

    return change


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ([], "not Karpathy's JSON: it has no list 'images'"),
        ({"info": {}}, "not Karpathy's JSON: it has no list 'images'"),
        ({"images": [{"filename": "x.jpg", "split": "train"}]}, "image 0 has no 'sentences'"),
        ({"images": [karpathy_entry("../../x.jpg", "train")]}, "leaves the folder of pictures"),
        ({"images": [karpathy_entry("x.jpg", "train", [])]}, "'x.jpg' (train) has no caption"),
        ({"images": [karpathy_entry("x.jpg", "train")]}, "no pictures for val (it has train 1)"),
    ],
)
def test_captions_that_are_not_karpathys(fit, tmp_path, content, message):
    (tmp_path / "images").mkdir()
    (tmp_path / "dataset.json").write_text(content if isinstance(content, str) else json.dumps(content))
    line = fit(change=with_data(karpathy_data(tmp_path)))
    assert line.startswith(f"data.annotations='{tmp_path / 'dataset.json'}': ")
    assert message in line


@pytest.mark.parametrize("workers", [0, 1])
def test_a_missing_picture_stops_training_with_its_name(fit, tmp_path, workers):
    data = karpathy_tree(tmp_path)
    data["init_args"] |= {"num_workers": workers, "unit": "image"}  # two batches are all pictures
    (tmp_path / "images" / "train_3.jpg").unlink()
    line = fit(change=with_data(data))
    file = tmp_path / "images" / "train_3.jpg"
    assert line == f"image '{file}': no such file; --data.skip_broken=SHARE leaves broken training pictures out"


def test_a_picture_cut_off_stops_training_with_its_name(fit, tmp_path):
    data = karpathy_tree(tmp_path)
    data["init_args"]["unit"] = "image"
    file = tmp_path / "images" / "train_5.jpg"
    file.write_bytes(file.read_bytes()[:-200])
    assert fit(change=with_data(data)).startswith(f"image '{file}': broken (")


def test_a_monitor_that_nothing_logs(fit):
    saver = "--trainer.callbacks=lightning.pytorch.callbacks.ModelCheckpoint"
    line = fit(saver, "--trainer.callbacks.monitor=val/CIDR")
    assert line.startswith("trainer: ")
    assert "val/CIDR" in line


def test_truth_needs_data_that_can_tell(fit, tmp_path):
    line = fit("--trainer.callbacks+=ladic.callbacks.TruthEvaluation", change=with_data(karpathy_tree(tmp_path)))
    assert line == "trainer.callbacks: TruthEvaluation needs data that can check captions: ShapesDataModule"


def test_a_tokenizer_in_a_vocabulary_file_is_read(cli, tmp_path):
    words = json.loads(TOKENIZER)["model"]["vocab"]
    (tmp_path / "vocab.txt").write_text("\n".join(sorted(words, key=words.get)))
    config = write_config(tmp_path)
    done = cli("fit", "-c", config, f"--model.latent_space.tokenizer={tmp_path / 'vocab.txt'}", "--trainer.max_steps=1")
    assert done.code == 0, done.stderr


def test_every_kind_has_its_typo():
    assert set(TYPOS) == {kind.name for kind in KINDS}
