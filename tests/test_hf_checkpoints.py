"""Vision towers from transformers' checkpoints: whole models, pooling layers, precision, and pixel statistics."""

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from test_image_encoders import TOWER
from torch import nn

from ladic.components import HFVisionEncoder
from ladic.errors import UsageError
from ladic.frozen import digest
from ladic.testing import check_image_encoder


def hash_of(encoder: HFVisionEncoder) -> str:
    state = encoder.state_dict()
    return digest(state, sorted(state))


def save_classifier(folder: Path) -> None:
    """A ViT with a classifier, as the hub has many: without a pooler."""
    from transformers import ViTConfig, ViTForImageClassification

    ViTForImageClassification(ViTConfig(**TOWER)).save_pretrained(folder)


def test_the_tower_inside_a_whole_blip_is_read(tmp_path: Path) -> None:
    from transformers import BlipConfig, BlipForConditionalGeneration

    text = {**TOWER, "vocab_size": 50, "encoder_hidden_size": 16, "bos_token_id": 1, "eos_token_id": 2,
            "pad_token_id": 0, "sep_token_id": 2}  # fmt: skip
    whole = BlipForConditionalGeneration(BlipConfig(vision_config=TOWER, text_config=text)).eval()
    whole.save_pretrained(tmp_path)
    assert any(key.startswith("vision_model.") for key in load_file(tmp_path / "model.safetensors"))
    encoder, expected = HFVisionEncoder(str(tmp_path)), whole.vision_model.state_dict()
    own = encoder.model.state_dict()
    assert set(own) == set(expected)
    assert all(torch.equal(value, expected[key]) for key, value in own.items())


@pytest.mark.parametrize("family", ["vit", "clip"])
def test_a_checkpoint_that_lacks_weights_of_the_tower_is_refused(tmp_path: Path, family: str) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    if family == "vit":
        save_classifier(tmp_path)
    else:
        CLIPVisionModel(CLIPVisionConfig(**TOWER)).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file({key: v for key, v in load_file(file).items() if "position" not in key}, file, {"format": "pt"})
    with pytest.raises(UsageError, match=r"lacks weights of a .*\(1, such as .*position.*\); give") as caught:
        HFVisionEncoder(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_pooler_that_the_checkpoint_lacks_is_not_made_up(tmp_path: Path) -> None:
    save_classifier(tmp_path)
    first, second = HFVisionEncoder(str(tmp_path)), HFVisionEncoder(str(tmp_path))
    assert not [key for key in first.state_dict() if "pooler" in key]
    assert hash_of(first) == hash_of(second)


@pytest.mark.parametrize(
    "family", ["vit", "deit", "beit", "clip_vision_model", "siglip_vision_model", "blip_vision_model", "dinov2"]
)
def test_every_trained_weight_of_an_unfrozen_tower_gets_a_gradient(family: str) -> None:
    encoder = HFVisionEncoder(config={"model_type": family, **TOWER}, frozen=False)
    check_image_encoder(encoder)
    assert sum(weight.requires_grad for weight in encoder.parameters()) > 10


def test_the_kit_notices_a_weight_that_gets_no_gradient() -> None:
    encoder = HFVisionEncoder(config={"model_type": "vit", **TOWER}, frozen=False)
    encoder.stray = nn.Linear(1, 1)
    with pytest.raises(AssertionError, match=r"no gradient reaches: \['stray\.weight', 'stray\.bias'\]"):
        check_image_encoder(encoder)


@pytest.mark.parametrize(("family", "part"), [("vit", "pooler"), ("siglip_vision_model", "head")])
def test_weights_saved_with_a_pooling_layer_still_load(family: str, part: str) -> None:
    encoder = HFVisionEncoder(config={"model_type": family, **TOWER})
    around = nn.ModuleDict({"image_encoder": encoder})
    state = {key: torch.ones_like(value) for key, value in around.state_dict().items()}
    around.load_state_dict({**state, f"image_encoder.model.{part}.dense.weight": torch.ones(1)})
    assert all((value == 1).all() for value in encoder.parameters())
    with pytest.raises(RuntimeError, match="Unexpected"):
        around.load_state_dict({**state, "image_encoder.model.other.weight": torch.ones(1)})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_checkpoint_in_half_precision_becomes_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    from transformers import Dinov2Config, Dinov2Model

    saved = Dinov2Model(Dinov2Config(**TOWER)).to(dtype)
    saved.save_pretrained(tmp_path)
    encoder = HFVisionEncoder(str(tmp_path))
    assert {weight.dtype for weight in encoder.parameters()} == {torch.float32}
    assert torch.equal(encoder.model.layernorm.weight, saved.layernorm.weight.float())


@pytest.mark.parametrize("said", [True, False])
def test_pixel_statistics_of_a_hub_name_come_from_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bool
) -> None:
    folder = tmp_path / "models--someone--tower"
    snapshot = folder / "snapshots" / ("0" * 40)
    save_classifier(snapshot)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    if said:
        statistics = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
        (snapshot / "preprocessor_config.json").write_text(json.dumps(statistics))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    preprocess = HFVisionEncoder("someone/tower").preprocess
    expected = ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)) if said else ((0.5,) * 3, (0.5,) * 3)
    assert (preprocess.mean, preprocess.std) == expected


@pytest.mark.parametrize(
    ("family", "mean"), [("vit", 0.5), ("beit", 0.5), ("siglip_vision_model", 0.5), ("dinov2", 0.485), ("deit", 0.485)]
)
def test_pixel_statistics_without_a_file_are_those_of_the_family(family: str, mean: float) -> None:
    assert HFVisionEncoder(config={"model_type": family, **TOWER}).preprocess.mean[0] == mean
