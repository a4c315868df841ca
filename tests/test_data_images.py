"""Pictures of every kind, whole and broken, and what is made of them."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import picture

from ladic.components.image_encoders import TimmEncoder
from ladic.datamodules.images import BrokenImageError, open_image
from ladic.datamodules.transforms import augmented, tells_sides, to_tensor
from ladic.types import ImagePreprocess

PLAIN = ImagePreprocess(size=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), interpolation="bilinear")


def test_a_picture_is_turned_as_its_exif_says(tmp_path):
    image = Image.new("RGB", (40, 20), "white")
    image.paste((0, 0, 0), (0, 0, 20, 20))  # black on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned right by a quarter: black on top
    image.save(tmp_path / "turned.png", exif=exif)
    opened = open_image(tmp_path / "turned.png")
    assert opened.size == (20, 40)
    assert opened.getpixel((10, 5)) == (0, 0, 0)
    assert opened.getpixel((10, 35)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "YCbCr"])
def test_every_kind_of_picture_becomes_rgb(tmp_path, mode):
    image = Image.new("L", (10, 10), 200).convert("I").convert("I;16") if mode == "I;16" else None
    image = image or Image.new("RGB", (10, 10), (255, 255, 255)).convert(mode)
    file = tmp_path / f"x.{'jpg' if mode in ('CMYK', 'YCbCr') else 'png'}"
    image.save(file)
    opened = open_image(file)
    assert (opened.mode, opened.size) == ("RGB", (10, 10))
    if mode != "I;16":
        assert min(opened.getpixel((5, 5))) > 250


def test_sixteen_bit_greys_keep_their_brightness(tmp_path):
    Image.fromarray(np.full((10, 10), 0x8000, dtype=np.uint16)).save(tmp_path / "x.png")
    assert 120 < open_image(tmp_path / "x.png").getpixel((5, 5))[0] < 136


def test_transparent_pixels_do_not_show_what_they_hide(tmp_path):
    Image.new("RGBA", (10, 10), (255, 0, 0, 0)).save(tmp_path / "x.png")
    assert open_image(tmp_path / "x.png").getpixel((5, 5)) == (255, 255, 255)


def test_floats_are_read_in_either_usual_range(tmp_path):
    for number, value in enumerate((0.5, 127.5)):
        Image.fromarray(np.full((10, 10), value, dtype=np.float32)).save(tmp_path / f"{number}.tiff")
        assert open_image(tmp_path / f"{number}.tiff").getpixel((5, 5)) == (128, 128, 128)


@pytest.mark.parametrize("kind", ["gif", "webp", "png"])
def test_of_a_moving_picture_the_first_frame_is_taken(tmp_path, kind):
    frames = [Image.new("RGB", (10, 10), colour) for colour in ("red", "lime")]
    frames[0].save(tmp_path / f"x.{kind}", save_all=True, append_images=frames[1:], lossless=True)
    assert open_image(tmp_path / f"x.{kind}").getpixel((5, 5)) == (255, 0, 0)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1)])
@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_the_narrowest_pictures_become_tensors(tmp_path, size, resize):
    picture(tmp_path / "x.png", "red", size)
    preprocess = ImagePreprocess(8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "bicubic", resize)
    image = open_image(tmp_path / "x.png")
    assert to_tensor(image, preprocess).shape == (3, 8, 8)
    assert augmented(image, preprocess, "crop-flip", 3, True).shape == (3, 8, 8)


@pytest.mark.parametrize("name", ["a b.jpg", "éa ☀.jpg", "x#1.jpg", "-f.jpg", "日本.JPEG"])
def test_names_of_any_kind_are_opened(tmp_path, name):
    picture(tmp_path / name)
    assert open_image(tmp_path / name).size == (40, 30)


def damaged(kind, folder):
    """A file that is no picture, in one of the ways that files are."""
    file = folder / "x.jpg"
    if kind == "missing":
        return file
    if kind == "a folder":
        file.mkdir()
        return file
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(
        whole, "JPEG" if kind != "cut off png" else "PNG"
    )
    content = {
        "empty": b"",
        "text": b"<html>404</html>",
        "cut off": whole.getvalue()[: len(whole.getvalue()) // 2],
        "cut off png": whole.getvalue()[: len(whole.getvalue()) // 2],
        "head alone": whole.getvalue()[:20],
        "bomb": bomb(),
    }[kind]
    file.write_bytes(content)
    return file


def bomb():
    """A PNG of 400 megapixels in a few bytes."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "no such file"),
        ("a folder", "broken .*directory"),
        ("empty", "an empty file"),
        ("text", "not a picture that Pillow can read"),
        ("cut off", "broken .*truncated"),
        ("cut off png", "broken .*"),
        ("head alone", "not a picture|broken"),
        ("bomb", "broken .*decompression bomb"),
    ],
)
def test_what_is_no_picture_is_told_in_one_line_with_its_name(tmp_path, kind, said):
    with pytest.raises(BrokenImageError, match=rf"^image '.*x\.jpg': {said}") as told:
        open_image(damaged(kind, tmp_path))
    assert "\n" not in str(told.value)


@pytest.mark.filterwarnings("ignore:Tag data")
def test_damaged_exif_does_not_hinder(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = bytearray(exif.tobytes())
    data[-12:] = b"\xff" * 12
    Image.new("RGB", (20, 10), "red").save(tmp_path / "x.jpg", exif=bytes(data))
    assert open_image(tmp_path / "x.jpg").mode == "RGB"


PHOTO = Image.fromarray(np.random.default_rng(1).integers(0, 255, (60, 90, 3), dtype=np.uint8))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("resize", "share"), [("squash", 1.0), ("crop", 0.875), ("crop", 1.0)])
def test_pictures_are_prepared_as_torchvision_does(interpolation, resize, share):
    from torchvision.transforms import v2

    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    how = v2.InterpolationMode(interpolation)
    side = [v2.Resize((32, 32), how)] if resize == "squash" else [v2.Resize(int(32 / share), how), v2.CenterCrop(32)]
    asked = v2.Compose([*side, v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])(PHOTO)
    made = to_tensor(PHOTO, ImagePreprocess(32, mean, std, interpolation, resize, share))
    torch.testing.assert_close(made, torch.as_tensor(asked), atol=1e-6, rtol=0)


def test_an_encoder_says_whether_to_squash_or_crop():
    squash, crop = (TimmEncoder("resnet10t", image_size=64, resize=resize).preprocess for resize in ("squash", "crop"))
    assert (squash.resize, squash.crop_share) == ("squash", 1.0)
    assert crop.resize == "crop"
    assert 0.8 < crop.crop_share < 1


def test_random_crops_follow_from_their_seed_and_lie_in_the_picture():
    first, again, other = (augmented(PHOTO, PLAIN, "crop", seed, True) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(augmented(PHOTO, PLAIN, "none", 5, True), to_tensor(PHOTO, PLAIN))


def test_only_pictures_without_sides_in_their_captions_are_mirrored():
    ramp = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (64, 1, 3)))

    def rises(tensor):
        return bool(tensor[0, 4, -1] > tensor[0, 4, 0])

    mirrored = [not rises(augmented(ramp, PLAIN, "crop-flip", seed, True)) for seed in range(60)]
    assert 15 < sum(mirrored) < 45
    assert all(rises(augmented(ramp, PLAIN, "crop-flip", seed, False)) for seed in range(20))
    assert all(rises(augmented(ramp, PLAIN, "crop", seed, True)) for seed in range(20))
    assert tells_sides(["A man", "he turns left-handed"])
    assert tells_sides(["in the rightmost corner"])
    assert not tells_sides(["the light is bright", "she leaves"])
