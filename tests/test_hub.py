"""save_pretrained, from_pretrained, push_to_hub and the model card."""

import json
import re
import shutil

import pytest
import torch
import yaml
from fake_hub import hub_in_place
from safetensors.torch import load_file
from tiny_run import error_line, picture, tiny_config, write_config

from ladic.captioner import LatentDiffusionCaptioner
from ladic.cli.main import main
from ladic.components.samplers import RenoiseSampler
from ladic.errors import UsageError
from ladic.phrases import PhraseDetector

load = LatentDiffusionCaptioner.load_from_checkpoint
from_pretrained = LatentDiffusionCaptioner.from_pretrained


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder of a run whose selector reads a file, trained, validated and tested."""
    folder = tmp_path_factory.mktemp("published")
    PhraseDetector({"a": 0.9, "red": 0.2}, width=16).save(folder / "phrases.safetensors")
    config = tiny_config(folder)
    config["model"]["selector"] = {
        "class_path": "PhraseSelector",
        "init_args": {"weights": str(folder / "phrases.safetensors")},
    }
    config["model"]["num_candidates"] = 2
    config["trainer"]["callbacks"][0]["init_args"]["test_metrics"] = ["bleu", "cider", "length"]
    file = str(write_config(folder, config))
    main(["fit", "-c", file])
    main(["test", "-c", file, f"--ckpt_path={folder / 'run'}"])
    return folder / "run"


@pytest.fixture(scope="module")
def saved(run, tmp_path_factory):
    return load(run).save_pretrained(tmp_path_factory.mktemp("saved") / "model", license="cc-by-4.0")


def captions_of(model):
    batch = {"image_id": ["a", "b"], "image": torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))}
    return model.generate(batch, num_candidates=2).candidates


def test_a_saved_captioner_is_the_same_one(run, saved):
    before, after = load(run), from_pretrained(saved)
    assert before.state_dict().keys() == after.state_dict().keys()
    for name, value in before.state_dict().items():
        assert torch.equal(value, after.state_dict()[name]), name
    assert captions_of(after) == captions_of(before)
    assert not after.training
    assert after.loaded_step == 2


def test_it_needs_nothing_but_its_folder(run, saved, tmp_path):
    moved = shutil.copytree(saved, tmp_path / "moved")
    away = run.parent / "phrases.safetensors"
    away.rename(away.with_suffix(".away"))
    try:
        model = from_pretrained(moved)
    finally:
        away.with_suffix(".away").rename(away)
    assert set(model.selector.detector.phrases) == {"a", "red"}
    text = (moved / "config.json").read_text()
    assert str(run.parent) not in text, "how the author's disk is laid out is nobody's business"
    assert json.loads((moved / "tokenizer.json").read_text())["model"]["vocab"]


def test_saving_again_says_the_same(saved, tmp_path):
    again = from_pretrained(saved).save_pretrained(tmp_path / "again")
    first, second = (json.loads((folder / "config.json").read_text()) for folder in (saved, again))
    assert first == second
    from_pretrained(again).save_pretrained(again)  # into the folder that it came from
    assert captions_of(from_pretrained(again)) == captions_of(from_pretrained(saved))


def test_parts_can_be_replaced_on_loading(saved):
    model = from_pretrained(str(saved), sampler=RenoiseSampler(3))
    assert isinstance(model.sampler, RenoiseSampler)


def test_frozen_weights_may_stay_out(saved, tmp_path):
    from transformers import BertConfig, BertForMaskedLM

    from ladic.components.latent_spaces.backbone import load_tokenizer
    from ladic.testing import TINY_BERT, tiny_tokenizer

    tokenizer = load_tokenizer(tiny_tokenizer())
    BertForMaskedLM(BertConfig(**TINY_BERT, vocab_size=len(tokenizer))).save_pretrained(tmp_path / "text")
    tokenizer.save_pretrained(tmp_path / "text")
    config = tiny_config(tmp_path)
    space = config["model"]["latent_space"]["init_args"]
    space["model"] = str(tmp_path / "text")
    del space["config"]
    main(["fit", "-c", str(write_config(tmp_path, config))])
    model = load(tmp_path / "run")
    whole = model.save_pretrained(tmp_path / "whole")
    lean = model.save_pretrained(tmp_path / "lean", include_frozen=False)
    assert any(".lower." in name for name in load_file(whole / "model.safetensors"))
    assert not any(".lower." in name for name in load_file(lean / "model.safetensors"))
    assert captions_of(from_pretrained(lean)) == captions_of(from_pretrained(whole)) == captions_of(model)
    shutil.rmtree(tmp_path / "text")
    assert captions_of(from_pretrained(whole)) == captions_of(model)
    with pytest.raises(UsageError, match=r"leaves out the frozen weights of latent_space \(model=.*text\)"):
        from_pretrained(lean)


def test_commands_take_the_folder_for_a_checkpoint(cli, run, saved, tmp_path):
    file = picture(tmp_path / "a.png")
    of_run, of_folder = (cli("caption", file, "--checkpoint", place) for place in (run, saved))
    assert of_run.code == 0
    assert of_run == of_folder


# The card.


@pytest.fixture(scope="module")
def card(saved):
    return (saved / "README.md").read_text()


def test_the_card_says_what_evaluation_measured(run, card):
    scores = json.loads((run / "scores_test.json").read_text())
    assert f"| BLEU-4 | {round(100 * scores['scores']['BLEU-4'], 2)} |" in card
    assert f"| Mean length | {round(scores['scores']['Mean length'], 4)} |" in card
    assert "test split, 4 images" in card
    assert "4 network evaluations (NFE) for each of 2 samples" in card  # two steps, guided
    assert "ShapesDataModule" in card
    assert "num_train=16" in card
    assert "2 steps of 8 captions" in card
    assert "at most 10 word pieces" in card
    assert "The weights: cc-by-4.0." in card
    assert "has not been measured" not in card


def test_the_hub_reads_the_cards_head(card):
    from huggingface_hub import ModelCard

    data = ModelCard(card, ignore_metadata_errors=False).data
    assert (data.library_name, data.pipeline_tag, data.license) == ("ladic", "image-to-text", "cc-by-4.0")
    found = {(result.dataset_split, result.metric_name): result.metric_value for result in data.eval_results}
    assert ("test", "CIDEr-D") in found
    assert ("val", "BLEU-4") in found
    assert not [name for _, name in found if "shuffled" in name]
    assert yaml.safe_load(card.split("---")[1])["tags"] == ["image-captioning", "diffusion", "ladic"]


def test_scores_of_other_weights_are_not_the_cards(run, tmp_path):
    copied = shutil.copytree(run, tmp_path / "run")
    checkpoint = next(copied.rglob("last.ckpt"))
    content = torch.load(checkpoint, weights_only=True)
    content["global_step"] = 3
    torch.save(content, checkpoint)
    card = (load(copied).save_pretrained(tmp_path / "model") / "README.md").read_text()
    assert "Not evaluated" in card
    assert "has not been measured" in card
    assert not re.search(r"\| BLEU", card)
    assert "None was stated" in card


# The Hub.


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with hub_in_place(monkeypatch, tmp_path / "cache") as repositories:
        yield repositories


def test_to_the_hub_and_back(hub, saved, cli, tmp_path):
    model = from_pretrained(saved)
    address = model.push_to_hub("someone/shapes", token="hf_none", license="cc-by-4.0")
    assert address.endswith("/someone/shapes")
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= set(hub["someone/shapes"])
    assert b'from_pretrained("someone/shapes")' in hub["someone/shapes"]["README.md"]
    assert captions_of(from_pretrained("someone/shapes")) == captions_of(model)
    done = cli("caption", picture(tmp_path / "a.png"), "--checkpoint", "hf:someone/shapes")
    assert done.code == 0, done.stderr


def test_a_repository_that_is_not_there_is_one_line(hub, cli, tmp_path):
    done = cli("caption", picture(tmp_path / "a.png"), "--checkpoint", "hf:someone/else")
    assert done.code == 2
    assert "'someone/else': no such folder here, and the Hub can't give it" in error_line(done.stderr)


def test_without_a_network_the_reason_is_said(saved):
    with pytest.raises(UsageError, match=r"'someone/shapes': no such folder here, .*HF_HUB_OFFLINE"):
        from_pretrained("someone/shapes")
    with pytest.raises(UsageError, match=r"not uploaded: .*`hf auth login`"):
        from_pretrained(saved).push_to_hub("someone/shapes")


@pytest.mark.parametrize("name", ["no such place", "../x/y", "a/b/c"])
def test_what_is_no_name_is_refused(name, saved):
    with pytest.raises(UsageError, match="OWNER/NAME"):
        from_pretrained(name)
    with pytest.raises(UsageError, match="OWNER/NAME"):
        from_pretrained(saved).push_to_hub(name)


def damage(folder, name, content):
    (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "no model.safetensors in it"),
        (lambda folder: damage(folder, "model.safetensors", b"xx"), "damaged"),
        (lambda folder: damage(folder, "config.json", b"{"), "not JSON"),
        (lambda folder: damage(folder, "config.json", b"[1]"), "not a captioner of ladic"),
        (lambda folder: damage(folder, "config.json", b'{"model_type": "ladic"}'), "'format' is missing"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer.json in it"),
    ],
)
def test_a_damaged_folder_is_one_line(saved, tmp_path, change, message):
    folder = shutil.copytree(saved, tmp_path / "model")
    change(folder)
    with pytest.raises(UsageError, match=message) as raised:
        from_pretrained(folder)
    assert str(folder) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_names_in_a_configuration_do_not_lead_out_of_its_folder(saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "model")
    text = (folder / "config.json").read_text()
    assert '"file:selector.phrases.safetensors"' in text
    (folder / "config.json").write_text(text.replace("file:selector.", "file:../../"))
    with pytest.raises(UsageError, match=r"no phrases\.safetensors in it"):
        from_pretrained(folder)


def test_a_folder_that_can_not_be_made_is_one_line(saved, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="can't be written there"):
        from_pretrained(saved).save_pretrained(tmp_path / "file" / "model")
