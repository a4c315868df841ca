"""Each experiment's configuration trains a step and captions pictures, with small stand-ins for the backbones."""

import json

import pytest
import yaml
from data_trees import coco_karpathy, coco_pictures, genome_pictures, stanford
from safetensors.torch import load_file, save_file
from tiny_run import TOKENIZER, counted, counts

from ladic.cli.configs import find_configs
from ladic.cli.configs_diff import flatten, load
from ladic.components import BertLatentSpace

SECOND_STAGES = ("experiment/distill",)  # they need a teacher: tests/test_distillation.py
EXPERIMENTS = {
    name: file for name, file in find_configs().items() if name.startswith("experiment/") and name not in SECOND_STAGES
}
VOCABULARY = len(json.loads(TOKENIZER)["model"]["vocab"])
BERT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 12,
    "num_attention_heads": 2,
}
PAPER = {  # what the paper's tables say of each, to be found in its comments
    "ladic_released": ["38.2", "126.2"],
    "ladic_paper": ["38.2", "126.2", "29.5", "22.4"],
    "table1_5steps": ["35.1", "115.2", "27.4", "21.3", "56.7", "77.1", "93.8"],
    "table1_30steps": ["38.2", "126.2", "29.5", "22.4", "58.7", "77.3", "94.4"],
    "table3_latency": ["0.049", "0.113", "0.625"],
    "table4_without": ["37.3", "121.5"],
    "table4_t05_l05": ["38.2", "126.2"],
    "table4_t08_l05": ["38.1", "126.6"],
    "table4_t02_l05": ["37.5", "122.9"],
    "table4_t05_l08": ["37.6", "123.5"],
    "table4_t05_l02": ["37.5", "122.3"],
    "table5_a": ["15.4", "46.3"],
    "table5_b": ["20.3", "59.1"],
    "table5_c": ["22.8", "76.3"],
    "table5_d": ["26.9", "91.8"],
    "table5_e": ["31.6", "103.5"],
    "table5_f": ["33.4", "110.0"],
    "table5_g": ["34.1", "113.4"],
    "table6_layer3": ["31.1", "98.4"],
    "table6_layer6": ["33.7", "112.3"],
    "table6_layer9": ["32.3", "106.8"],
    "paragraph": ["7.3", "6.1"],
    "paragraph_whole": [],
    "ladic_plus": [],
}


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory):
    """Tiny COCO and paragraph trees, and the statistics and head of a tiny text space."""
    folder = tmp_path_factory.mktemp("experiments")
    coco_pictures(folder / "coco")
    genome_pictures(folder / "genome")
    space = BertLatentSpace(config=BERT, tokenizer=TOKENIZER, layer=6, length=12)
    space.normalizer.fitted.fill_(True)
    space.save_fit(folder / "space.safetensors")
    save_file(load_file(folder / "space.safetensors"), folder / "space.safetensors")  # for all layers: it tells none
    (folder / "tokenizer.json").write_text(TOKENIZER)
    counted(folder, width=16)
    coco = {"annotations": coco_karpathy(folder), "images": folder / "coco"}
    paragraphs = {"annotations": stanford(folder / "lists"), "images": folder / "genome", "splits": folder / "lists"}
    return {"folder": folder, "CocoDataModule": coco, "StanfordParagraphDataModule": paragraphs}


def flags(stand_ins, config):
    values = {
        "model.image_encoder.weights": "null",
        "model.image_encoder.width": 16,
        "model.image_encoder.depth": 1,
        "model.image_encoder.num_heads": 2,
        "model.image_encoder.image_size": 32,
        "model.latent_space.model": "null",
        "model.latent_space.config": json.dumps(BERT),
        "model.latent_space.tokenizer": stand_ins["folder"] / "tokenizer.json",
        "model.latent_space.fitted": stand_ins["folder"] / "space.safetensors",
        "model.latent_space.length": 12,
        "model.denoiser.hidden_width": 32,
        "model.denoiser.num_layers": 1,
        "model.denoiser.num_heads": 2,
        "model.denoiser.ffn_width": 16,
        **counts(stand_ins["folder"], config),
        **{f"data.{name}": value for name, value in stand_ins[config["data"]].items()},
        "data.batch_size": 2,
        "data.eval_batch_size": 2,
        "data.num_workers": 0,
        "trainer.accelerator": "cpu",
        "trainer.max_steps": 1,
        "trainer.max_epochs": 1,
        "trainer.accumulate_grad_batches": 1,
        "trainer.check_val_every_n_epoch": "null",
        "trainer.val_check_interval": 1,
        "trainer.limit_val_batches": 1,
        "trainer.logger": "CSVLogger",
        "trainer.log_every_n_steps": 1,
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
    }
    return [f"--{name}={value}" for name, value in values.items()]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_trains_and_captions(cli, tmp_path, stand_ins, name):
    config = flatten(load(EXPERIMENTS[name]))
    root = [f"--trainer.default_root_dir={tmp_path}", f"--trainer.logger.save_dir={tmp_path}"]
    done = cli("fit", "-c", EXPERIMENTS[name], *flags(stand_ins, config), *root)
    assert done.code == 0, done.stderr
    results = json.loads((tmp_path / "results_val.json").read_text())
    assert len(results) == 1
    (metrics,) = tmp_path.rglob("metrics.csv")
    assert "train/loss" in metrics.read_text()


def test_the_comments_give_the_papers_numbers():
    assert {name.removeprefix("experiment/") for name in EXPERIMENTS} == set(PAPER)
    for name, numbers in PAPER.items():
        comments = " ".join(
            line for line in EXPERIMENTS[f"experiment/{name}"].read_text("utf-8").splitlines() if line.startswith("#")
        )
        for number in numbers:
            assert number in comments, f"{name} doesn't give {number}"


def value(name, key):
    return flatten(load(EXPERIMENTS[f"experiment/{name}"])).get(key)


def test_the_ablation_takes_one_part_away_after_another():
    """Table 5: split, reassignment, normalisation, language model, caption loss, cross-attention."""
    rows = {row: flatten(load(EXPERIMENTS[f"experiment/table5_{row}"])) for row in "abcdefg"}
    space = "model.latent_space"
    assert [rows[row].get(f"{space}.layer") for row in "gfed"] == [6, 12, 12, 12]
    assert [rows[row].get(f"{space}.reassign") for row in "gfedcba"] == [None, None, *[False] * 5]
    assert [rows[row].get(f"{space}.normalize") for row in "gfedcba"] == [None, None, None, *[False] * 4]
    assert [rows[row][space] for row in "gfedcba"] == ["BertLatentSpace"] * 4 + ["EmbeddingLatentSpace"] * 3
    assert [rows[row]["model.caption_loss_weight"] for row in "gfedcba"] == [0.2] * 5 + [0.0] * 2
    assert [rows[row]["model.denoiser"] for row in "gfedcba"] == ["CrossAttentionDenoiser"] * 6 + ["PrefixDenoiser"]
    assert {rows[row]["model.sampler.num_steps"] for row in rows} == {5}


def test_the_settings_of_back_and_refine_are_table_4s():
    for at, drop in ((0.5, 0.5), (0.8, 0.5), (0.2, 0.5), (0.5, 0.8), (0.5, 0.2)):
        name = f"table4_t{10 * at:02.0f}_l{10 * drop:02.0f}"
        assert (value(name, "model.sampler.at"), value(name, "model.sampler.drop")) == (at, drop)
        assert value(name, "model.sampler.sampler.num_steps") == 30
    assert value("table4_without", "model.sampler") == "DDIMSampler"


def test_a_hyperparameter_of_table_7_is_the_papers():
    config = yaml.safe_load(EXPERIMENTS["experiment/ladic_paper"].read_text("utf-8"))
    model, data, trainer = config["model"], config["data"]["init_args"], config["trainer"]
    assert data["batch_size"] * trainer["accumulate_grad_batches"] * trainer["devices"] == 64 * 8
    assert trainer["max_epochs"] == 60
    assert model["optimizer"]["init_args"] == {"lr": 5e-5, "betas": [0.9, 0.999]}
    assert model["lr_schedule"] == {"warmup": 0.1, "shape": "linear"}
    assert model["guidance"]["scale"] == 1 + 1
    assert (model["drop_image"], model["self_conditioning"], model["caption_loss_weight"]) == (0.1, 0.5, 0.2)
    denoiser, space = model["denoiser"]["init_args"], model["latent_space"]["init_args"]
    sizes = [denoiser[name] for name in ("hidden_width", "num_layers", "ffn_width", "num_heads")]
    assert sizes == [768, 12, 3072, 16]
    assert (space["layer"], space["length"]) == (6, 24)
    assert model["noise_schedule"]["init_args"]["schedule"]["init_args"]["num_steps"] == 1000
    assert model["selector"]["class_path"] == "MinimumBayesRiskSelector"
