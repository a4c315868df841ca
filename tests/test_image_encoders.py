"""Image encoders: shapes of tokens, frozen weights, position embeddings at other sizes, and what is refused."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from ladic.components import ConvEncoder, HFVisionEncoder, ImageEncoder, TimmEncoder
from ladic.components.image_encoders.conv import SHIPPED
from ladic.errors import UsageError

TOWER: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 32,
    "patch_size": 16,
}


def tower(model_type: str, **changes: Any) -> dict[str, Any]:
    return {"model_type": model_type, **TOWER, **changes}


def pictures(encoder: ImageEncoder, rows: int = 2) -> Tensor:
    return torch.randn(rows, 3, encoder.preprocess.size, encoder.preprocess.size)


# timm


def timm_model(encoder: TimmEncoder) -> Any:
    return encoder.model


def test_a_cnn_map_becomes_tokens_row_by_row() -> None:
    encoder = TimmEncoder("test_resnet", image_size=64)
    images = pictures(encoder)
    maps = timm_model(encoder).forward_features(images)
    tokens = encoder(images)
    _, channels, height, width = maps.shape
    assert tokens.shape == (2, height * width, channels) == (2, encoder.num_tokens, encoder.width)
    assert height > 1, "one cell could not tell the order"
    for y in range(height):
        for x in range(width):
            assert torch.equal(tokens[:, y * width + x], maps[:, :, y, x])


def test_a_map_with_channels_last_becomes_tokens_too() -> None:
    encoder = TimmEncoder(
        "swin_tiny_patch4_window7_224",
        image_size=64,
        model_kwargs={"depths": (1, 1), "num_heads": (1, 2), "embed_dim": 8, "window_size": 4},
    )
    images = pictures(encoder)
    maps = timm_model(encoder).forward_features(images)
    assert maps.shape == (2, 8, 8, 16), "this one gives (B, H, W, C)"
    assert torch.equal(encoder(images)[:, 3 * 8 + 5], maps[:, 3, 5])


def test_a_vit_gives_its_class_token_and_patches() -> None:
    encoder = TimmEncoder("test_vit", image_size=64)
    images = pictures(encoder)
    assert encoder(images).shape == (2, 1 + (64 // 16) ** 2, 64) == (2, encoder.num_tokens, encoder.width)
    assert torch.equal(encoder(images), timm_model(encoder).forward_features(images))


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch14_dinov2"])
def test_timms_position_embeddings_are_interpolated_to_another_size(name: str) -> None:
    from timm.layers import resample_abs_pos_embed

    torch.manual_seed(7)
    own = TimmEncoder(name, model_kwargs={"depth": 1})
    torch.manual_seed(7)
    small = TimmEncoder(name, image_size=56, model_kwargs={"depth": 1})
    patch = timm_model(small).patch_embed.patch_size[0]
    cells = 56 // patch
    assert small.preprocess.size == 56
    assert small(pictures(small)).shape == (2, 1 + cells**2, own.width)
    expected = resample_abs_pos_embed(timm_model(own).pos_embed, (cells, cells), num_prefix_tokens=1)
    torch.testing.assert_close(timm_model(small).pos_embed, expected)


def test_the_size_that_a_timm_model_is_built_for_is_the_pictures() -> None:
    encoder = TimmEncoder("vit_tiny_patch16_224", model_kwargs={"img_size": 64, "depth": 1})
    assert (encoder.preprocess.size, encoder.num_tokens) == (64, 1 + 4**2)
    both = TimmEncoder("vit_tiny_patch16_224", image_size=32, model_kwargs={"img_size": (64, 64), "depth": 1})
    assert (both.preprocess.size, both.num_tokens) == (32, 1 + 2**2)


def test_timm_preprocessing_follows_the_model_unless_told() -> None:

    own = timm.data.resolve_data_config({}, model=timm.create_model("test_resnet"))
    encoder = TimmEncoder("test_resnet")
    assert (encoder.preprocess.mean, encoder.preprocess.std) == (own["mean"], own["std"])
    assert encoder.preprocess.size == own["input_size"][-1]
    assert encoder.preprocess.interpolation == own["interpolation"]
    told = TimmEncoder("test_resnet", image_size=32, mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))
    assert (told.preprocess.size, told.preprocess.mean) == (32, (0.1, 0.2, 0.3))


def test_timm_weights_come_from_the_file(tmp_path: Path) -> None:
    source = TimmEncoder("test_resnet", image_size=32)
    file = tmp_path / "weights.safetensors"
    save_file(source.model.state_dict(), file)
    torch.manual_seed(99)
    read, fresh = TimmEncoder("test_resnet", checkpoint_path=str(file), image_size=32), TimmEncoder("test_resnet")
    images = pictures(read)
    assert torch.equal(read(images), source(images))
    assert not torch.equal(fresh(images), source(images))
    # A file with a classifier, as published ones have, serves as well; one with anything else over does not.
    weights = source.model.state_dict()
    save_file({**timm.create_model("test_resnet").state_dict(), **weights}, file)
    again = TimmEncoder("test_resnet", checkpoint_path=str(file), image_size=32)
    assert torch.equal(again(images), read(images))
    save_file({**weights, "stray.weight": torch.zeros(1)}, file)
    with pytest.raises(UsageError, match=r"stray\.weight is unknown"):
        TimmEncoder("test_resnet", checkpoint_path=str(file))
    assert read.checkpoint_args()["checkpoint_path"] is None, "a checkpoint of the captioner doesn't need the file"


def encoders(frozen: bool) -> list[ImageEncoder]:
    return [
        TimmEncoder("test_resnet", image_size=32, frozen=frozen),
        HFVisionEncoder(config=tower("vit"), frozen=frozen),
        ConvEncoder(image_size=16, channels=(8, 8), frozen=frozen),
    ]


def test_a_frozen_encoder_keeps_its_statistics_and_weights_while_the_model_around_it_trains() -> None:
    for encoder in encoders(frozen=True):
        around = nn.Sequential(encoder, nn.Linear(encoder.width, 1))
        before = {key: value.clone() for key, value in encoder.state_dict().items()}
        around.train()
        optimizer = torch.optim.SGD([p for p in around.parameters() if p.requires_grad], lr=1.0)
        around(pictures(encoder)).sum().backward()
        optimizer.step()
        assert not any(module.training for module in encoder.modules())
        assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


def test_pictures_follow_the_weights_to_their_device_and_precision() -> None:
    encoder = ConvEncoder(image_size=16, channels=(8, 8)).to("meta", torch.bfloat16)
    tokens = encoder(pictures(encoder))
    assert (tokens.device.type, tokens.dtype) == ("meta", torch.bfloat16)


def test_an_encoder_that_is_not_frozen_trains_and_repeats_itself_in_eval_mode() -> None:
    for encoder in encoders(frozen=False):
        encoder.train()
        assert all(module.training for module in encoder.modules())
        encoder(pictures(encoder)).sum().backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())
        encoder.eval()
        images = pictures(encoder)
        assert torch.equal(encoder(images), encoder(images))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"model_name": "vit_smal_patch16"}, "model_name='vit_smal_patch16': timm has no such model; near it: .+"),
        ({"model_name": "test_vit", "checkpoint_path": "no/file.pth"}, "checkpoint_path='no/file.pth': no such file"),
        ({"model_name": "test_vit", "model_kwargs": {"colour": 1}}, "test_vit.*can't build it.*colour.*model_kwargs"),
        ({"model_name": "crossvit_9_240"}, "model_name='crossvit_9_240': .*neither a map nor a row of tokens"),
        ({"model_name": "test_vit", "pretrained": True}, "weights can't be fetched .*checkpoint_path=FILE"),
    ],
)
def test_timm_mistakes_are_named_in_one_line(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        TimmEncoder(**arguments)
    assert "\n" not in str(caught.value)


class Payload:
    """Would touch a file on being unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_broken_foreign_and_harmful_weights_are_refused(tmp_path: Path) -> None:
    broken, foreign, harmful = tmp_path / "broken.safetensors", tmp_path / "foreign.pth", tmp_path / "harmful.pth"
    broken.write_text("hello")
    torch.save({"something.else": torch.zeros(1)}, foreign)
    torch.save({"weights": Payload(tmp_path / "touched")}, harmful)
    for file in (broken, foreign, harmful):
        with pytest.raises(UsageError, match=f"checkpoint_path='{file}': its weights don't fit test_vit") as caught:
            TimmEncoder("test_vit", checkpoint_path=str(file))
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "touched").exists()
    pickle.loads(pickle.dumps(Payload(tmp_path / "touched")))
    assert (tmp_path / "touched").exists(), "the payload does work where pickles are believed"


# transformers


@pytest.mark.parametrize(
    ("config", "extra"),
    [
        (tower("clip_vision_model"), 1),
        (tower("blip_vision_model"), 1),
        (tower("siglip_vision_model"), 0),
        (tower("vit"), 1),
        (tower("deit"), 2),  # a distillation token
        (tower("dinov2"), 1),
        (tower("dinov2_with_registers", num_register_tokens=3), 4),
    ],
    ids=lambda value: value["model_type"] if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("size", [None, 64])
def test_vision_towers_announce_their_tokens(config: dict[str, Any], extra: int, size: int | None) -> None:
    encoder = HFVisionEncoder(config=config, image_size=size)
    assert encoder.num_tokens == ((size or 32) // 16) ** 2 + extra
    assert encoder(pictures(encoder)).shape == (2, encoder.num_tokens, 16)


def test_position_embeddings_are_interpolated_to_another_size() -> None:
    encoder = HFVisionEncoder(config=tower("vit", num_hidden_layers=0, image_size=48), image_size=80)
    model = encoder.model
    with torch.no_grad():
        model.embeddings.position_embeddings.normal_()
        images = pictures(encoder)
        patches = model.embeddings.patch_embeddings.projection(images).flatten(2).transpose(1, 2)
        grid = model.embeddings.position_embeddings[:, 1:].unflatten(1, (3, 3)).permute(0, 3, 1, 2)
        grid = nn.functional.interpolate(grid, size=(5, 5), mode="bicubic", align_corners=False)
        expected = model.layernorm(patches + grid.flatten(2).transpose(1, 2))
    torch.testing.assert_close(encoder(images)[:, 1:], expected, atol=1e-5, rtol=0)


def test_blip_is_built_with_the_eps_it_was_trained_with(tmp_path: Path) -> None:
    from transformers import BlipVisionConfig, BlipVisionModel

    norms = [m.eps for m in HFVisionEncoder(config=tower("blip_vision_model")).modules() if isinstance(m, nn.LayerNorm)]
    assert norms
    assert set(norms) == {1e-6}
    assert HFVisionEncoder(config=tower("blip_vision_model", layer_norm_eps=1e-3)).model.config.layer_norm_eps == 1e-3
    BlipVisionModel(BlipVisionConfig(**TOWER, layer_norm_eps=1e-5)).save_pretrained(tmp_path)
    read = [m.eps for m in HFVisionEncoder(str(tmp_path)).modules() if isinstance(m, nn.LayerNorm)]
    assert set(read) == {1e-6}, "the hub's config says 1e-5, transformers' default"
    assert all(m.eps == 1e-5 for m in HFVisionEncoder(config=tower("clip_vision_model")).modules() if hasattr(m, "eps"))


def test_the_tower_of_a_two_tower_model_is_read_from_its_folder(tmp_path: Path) -> None:
    from transformers import CLIPConfig, CLIPModel

    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    whole = CLIPModel(CLIPConfig(text_config={**text, "vocab_size": 50}, vision_config=TOWER)).eval()
    whole.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]})
    )
    encoder = HFVisionEncoder(str(tmp_path))
    assert encoder.preprocess.mean == (0.1, 0.2, 0.3)
    assert encoder.preprocess.std == (0.4, 0.5, 0.6)
    images = pictures(encoder)
    with torch.no_grad():
        expected = whole.vision_model(pixel_values=images).last_hidden_state
    torch.testing.assert_close(encoder(images), expected, atol=1e-6, rtol=0)
    # Described for a checkpoint, it needs the folder no more.
    again = HFVisionEncoder(**encoder.checkpoint_args())
    again.load_state_dict(encoder.state_dict())
    assert again.preprocess == encoder.preprocess
    assert torch.equal(again(images), encoder(images))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "give either model=NAME_OR_FOLDER or config"),
        ({"model": "nobody/nothing"}, "model='nobody/nothing': can't be loaded .*download config.json and model"),
        ({"config": {"hidden_size": 4}}, "config: needs model_type"),
        ({"config": tower("not_a_tower")}, "model_type='not_a_tower': transformers knows no such"),
        ({"config": tower("siglip2_vision_model")}, "model_type='siglip2_vision_model' .*takes no picture"),
        ({"config": {"model_type": "bert", **TOWER}}, "model_type='bert'"),
        ({"config": {"model_type": "resnet", "depths": [1] * 4}}, "'resnet': no vision transformer .*TimmEncoder has"),
        ({"config": {"model_type": "convnext", "depths": [1] * 4}}, "'convnext': no vision .*no hidden_size"),
    ],
)
def test_hf_mistakes_are_named_in_one_line(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        HFVisionEncoder(**arguments)
    assert "\n" not in str(caught.value)


# ours


def test_a_conv_tokens_cell_is_its_place_in_the_picture() -> None:
    encoder = ConvEncoder(image_size=32, channels=(8, 8, 8))
    with torch.no_grad():
        encoder.positions.zero_()
    image = torch.randn(1, 3, 32, 32)
    changed = image.clone()
    changed[..., 26:30, 10:14] += 0.5  # bottom row, second cell of 8 pixels
    difference = (encoder(changed) - encoder(image))[0].norm(dim=-1).numpy()
    assert np.argmax(difference) == 3 * 4 + 1


def test_any_number_of_channels_is_accepted_but_none() -> None:
    for channels in ((56,), (50, 20)):
        encoder = ConvEncoder(16, channels)
        assert encoder(pictures(encoder)).shape == (2, encoder.num_tokens, channels[-1])
    groups = [layer.num_groups for layer in ConvEncoder().modules() if isinstance(layer, nn.GroupNorm)]
    assert groups == [3, 3, 6, 6, 10, 10], "those that the shipped weights were trained with"
    for channels in ((), (8, 0), (-8,)):
        with pytest.raises(UsageError, match=r"channels=\[.*\]: need one stage or more"):
            ConvEncoder(16, channels)
    with pytest.raises(UsageError, match="image_size=-16: must be a multiple of 4 for 2 stages"):
        ConvEncoder(-16, (8, 8))


def test_conv_weights_come_from_the_file_or_are_refused(tmp_path: Path) -> None:
    source = ConvEncoder(image_size=16, channels=(8, 8))
    file = tmp_path / "conv.safetensors"
    save_file({key: value.contiguous() for key, value in source.state_dict().items()}, file)
    read = ConvEncoder(16, (8, 8), weights=str(file))
    images = pictures(read)
    assert torch.equal(read(images), source(images))
    assert read.checkpoint_args()["weights"] is None
    with pytest.raises(UsageError, match=f"weights='{file}': made for other sizes"):
        ConvEncoder(16, (8, 16), weights=str(file))
    with pytest.raises(UsageError, match="weights='nowhere': no such file"):
        ConvEncoder(16, (8, 8), weights="nowhere")
    file.write_text("hello")
    with pytest.raises(UsageError, match=f"weights='{file}': not a safetensors file"):
        ConvEncoder(16, (8, 8), weights=str(file))
    with pytest.raises(UsageError, match="image_size=30: must be a multiple of 4 for 2 stages"):
        ConvEncoder(30, (8, 8))


@pytest.mark.skipif(not (SHIPPED / "shapes.safetensors").is_file(), reason="no shipped weights yet")
def test_the_shipped_weights_tell_pictures_apart() -> None:
    encoder = ConvEncoder(weights="shapes")
    red = torch.from_numpy(np.array(Image.new("RGB", (64, 64), "red"))).permute(2, 0, 1) / 127.5 - 1
    tokens = encoder(torch.stack([red, -red]))
    assert tokens.isfinite().all()
    assert (tokens[0] - tokens[1]).norm() > 1
