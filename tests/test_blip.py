"""BLIP's vision tower against transformers' own, from every file it comes in, and on grids of other sizes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ladic.components import BlipEncoder
from ladic.components.image_encoders.positions import resize_positions
from ladic.errors import UsageError

TINY: dict[str, Any] = {"width": 24, "depth": 2, "num_heads": 4}


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A random BLIP vision model of transformers' in a folder, with LaDiC's epsilon, and itself."""
    from transformers import BlipVisionConfig, BlipVisionModel

    torch.manual_seed(5)
    sizes = {"hidden_size": 24, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = BlipVisionConfig(**sizes, image_size=64, patch_size=16, layer_norm_eps=1e-6, initializer_range=0.2)
    model = BlipVisionModel(config).eval()
    folder = tmp_path_factory.mktemp("blip")
    state = {f"vision_model.{key}": value.contiguous() for key, value in model.state_dict().items()}
    state["text_decoder.cls.bias"] = torch.zeros(3)  # the rest of a captioner
    save_file(state, folder / "model.safetensors")
    return folder, model


@torch.no_grad()
def test_hub_weights_give_transformers_tokens(towers: tuple[Path, Any]) -> None:
    folder, model = towers
    images = torch.randn(2, 3, 64, 64)
    expected = model(pixel_values=images).last_hidden_state
    for weights in (folder, folder / "model.safetensors"):
        encoder = BlipEncoder(str(weights), image_size=64, **TINY)
        torch.testing.assert_close(encoder(images), expected, atol=2e-5, rtol=0)
    assert encoder.num_tokens == 17
    assert encoder.preprocess.size == 64
    assert encoder.preprocess.mean == (0.48145466, 0.4578275, 0.40821073)  # CLIP's


@torch.no_grad()
def test_original_weights_give_the_same(towers: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = towers
    ours = BlipEncoder(str(folder), image_size=64, **TINY)
    state = {f"visual_encoder.{key}": value for key, value in ours.model.state_dict().items()}
    state["text_encoder.embeddings.word"] = torch.zeros(2)
    state["visual_encoder_m.cls_token"] = torch.zeros(2)  # pre-training keeps a moving average
    torch.save({"model": state, "epoch": 19}, tmp_path / "model_base_capfilt_large.pth")
    again = BlipEncoder(str(tmp_path / "model_base_capfilt_large.pth"), image_size=64, **TINY)
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(again(images), ours(images))


@torch.no_grad()
def test_a_larger_picture_interpolates_positions_as_transformers_does(towers: tuple[Path, Any]) -> None:
    folder, model = towers
    images = torch.randn(1, 3, 96, 96)
    expected = model(pixel_values=images, interpolate_pos_encoding=True).last_hidden_state
    torch.testing.assert_close(BlipEncoder(str(folder), image_size=96, **TINY)(images), expected, atol=1e-4, rtol=0)


def test_an_enlarged_grid_comes_back_and_plain_sampling_would_not_bring_it() -> None:
    small = torch.randn(1, 1 + 14 * 14, 6)
    large = resize_positions(small, 24 * 24)
    assert large.shape == (1, 577, 6)
    torch.testing.assert_close(resize_positions(large, 14 * 14), small, atol=1e-5, rtol=0)
    grid = large[:, 1:].transpose(1, 2).unflatten(2, (24, 24))
    plain = torch.nn.functional.interpolate(grid, (14, 14), mode="bicubic").flatten(2).transpose(1, 2)
    assert (plain - small[:, 1:]).abs().max() > 0.01


@pytest.mark.parametrize(("old", "new"), [(3, 5), (14, 24), (5, 3)])
def test_positions_of_a_flat_grid_stay_flat(old: int, new: int) -> None:
    flat = torch.full((1, 1 + old * old, 2), 0.7)
    np.testing.assert_allclose(resize_positions(flat, new * new).numpy(), 0.7, atol=1e-6)


@pytest.mark.parametrize(("size", "width", "numbers"), [("base", 768, 85_798_656), ("large", 1024, 303_301_632)])
def test_full_sizes(size: Any, width: int, numbers: int) -> None:
    """ViT-B/16 as the released checkpoint counts it; ViT-L/16 by the formula below, both at 197 tokens."""
    with torch.device("meta"):
        encoder = BlipEncoder(weights=None, size=size)
    depth = {"base": 12, "large": 24}[size]
    block = 4 * width + 3 * width * width + 3 * width + width * width + width + 8 * width * width + 5 * width
    by_hand = width + 197 * width + 3 * 256 * width + width + depth * block + 2 * width
    assert (encoder.width, encoder.num_tokens) == (width, 197)
    assert sum(p.numel() for p in encoder.parameters()) == by_hand == numbers


def test_a_checkpoint_names_the_weights_and_does_not_need_them_to_be_described(towers: tuple[Path, Any]) -> None:
    folder, _ = towers
    encoder = BlipEncoder(str(folder), image_size=64, **TINY)
    assert encoder.checkpoint_args()["weights"] is None
    assert encoder.frozen_source() == {"weights": str(folder.resolve())}
    assert BlipEncoder(str(folder), image_size=64, frozen=False, **TINY).frozen_source() is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"image_size": 100}, "image_size=100: accepted are multiples of patch_size=16"),
        ({"size": "huge"}, "size='huge': accepted are base and large"),
        ({"width": 25}, "width=25, num_heads=4"),
        ({"weights": "no/such"}, "weights='no/such': neither a file nor a folder, and the hub doesn't give it"),
        ({"weights": "{tmp}"}, "the folder holds neither model.safetensors nor pytorch_model.bin"),
        ({"weights": "{tmp}/cut.pth"}, r"can't be read as tensors .*; is the file complete\?"),
        ({"weights": "{tmp}/other.pth"}, "holds no state dict"),
        ({"weights": "{blip}", "depth": 3}, "tensors don't fit .*blocks.2.norm1.weight is missing"),
        ({"weights": "{blip}", "width": 32}, r"cls_token is \(1, 1, 24\), not \(1, 1, 32\)"),
    ],
)
def test_what_does_not_fit_is_named(
    towers: tuple[Path, Any], tmp_path: Path, arguments: dict[str, Any], words: str
) -> None:
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04cut off")
    torch.save([1, 2], tmp_path / "other.pth")
    paths = {"{tmp}": str(tmp_path), "{blip}": str(towers[0])}
    given = {"weights": None, **TINY, **arguments}
    for mark, path in paths.items():
        given["weights"] = given["weights"] and given["weights"].replace(mark, path)
    with pytest.raises(UsageError, match=words):
        BlipEncoder(**given)
