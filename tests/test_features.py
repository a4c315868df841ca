"""The cache of image tokens: goes on after a kill, and refuses what it was not made for."""

import json
import multiprocessing
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import ladic.features.cache
import ladic.features.writer
from ladic.components import ConvEncoder, TimmEncoder
from ladic.errors import UsageError
from ladic.features import FeatureCache, FeatureWriter, begin_cache, decode, encode, fingerprint
from ladic.features.writer import relative_error
from ladic.json_files import write_json

IDS: list[int | str] = [10, 20, "c.jpg", 40, 50, 60, 70]
ROWS_OF_2 = 2 * 2 * 16 * 8 * 2 / 2**20
"""Megabytes of two pictures with two views of 16 tokens of width 8 in two bytes."""


@pytest.fixture(scope="module")
def encoder() -> ConvEncoder:
    torch.manual_seed(2)
    return ConvEncoder(image_size=16, channels=(8, 8))


def tokens_of(row: int, view: int, encoder: ConvEncoder) -> Tensor:
    """(N, C)"""
    return encoder(torch.full((1, 3, 16, 16), row / 10 + view))[0]


def manifest_of(encoder: ConvEncoder, number_format: str = "fp16") -> dict:
    sizes = {"num_tokens": encoder.num_tokens, "width": encoder.width}
    made = fingerprint(encoder, encoder.preprocess)
    return {**made, **sizes, "format": number_format, "views": 2, "augment": "crop"}


def make(
    folder: Path,
    encoder: ConvEncoder,
    ids: list[int | str] = IDS,
    files: int = 99,
    split: str = "train",
    number_format: str = "fp16",
    overwrite: bool = False,
    rank: int = 0,
    world: int = 1,
) -> int:
    """``ladic cache-features`` in small; stops after some files as if killed. Returns how many were written."""
    manifest = begin_cache(folder, manifest_of(encoder, number_format), overwrite)
    size = ROWS_OF_2 / 2 if number_format == "int8" else ROWS_OF_2
    writer = FeatureWriter(folder, split, ids, manifest, size, overwrite)
    written = 0
    for number in [number for number in writer.missing() if number % world == rank][:files]:
        rows = [torch.stack([tokens_of(row, view, encoder) for view in (0, 1)]) for row in writer.range(number)]
        writer.write(number, torch.stack(rows))
        written += 1
    writer.finish(lambda row: tokens_of(row, 0, encoder))
    return written


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_tokens_come_back_by_image_id_and_view_in_half_precision(tmp_path: Path, encoder: ConvEncoder) -> None:
    make(tmp_path, encoder)
    cache = FeatureCache(tmp_path, "train")
    cache.check(fingerprint(encoder, encoder.preprocess), IDS[::-1])
    assert (cache.views, cache.broken) == (2, {})
    for row, image_id in enumerate(IDS):
        for view in (0, 1):
            assert torch.equal(cache.tokens(image_id, view), tokens_of(row, view, encoder).half())
    assert cache.tokens(10).shape == (16, 8)


@pytest.mark.parametrize(("number_format", "error"), [("fp16", 2**-11), ("bf16", 2**-8), ("int8", 0.02)])
def test_the_measured_error_is_that_of_the_format(
    tmp_path: Path, encoder: ConvEncoder, number_format: str, error: float
) -> None:
    make(tmp_path, encoder, number_format=number_format)
    cache = FeatureCache(tmp_path, "train")
    for row, image_id in enumerate(IDS):
        measured = relative_error(cache.tokens(image_id), tokens_of(row, 0, encoder))
        assert measured <= cache.error + 1e-9
    assert 0 < cache.error < error
    assert json.loads((tmp_path / "train.json").read_text())["relative_error"]["pictures"] == 7


NUMBERS = st.floats(-1e4, 1e4, width=32)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=1, max_size=5))
def test_int8_is_off_by_half_a_step_of_its_channel_at_most(rows: list[list[float]]) -> None:
    tokens = torch.tensor(rows)
    stored, scales = encode(tokens, "int8")
    assert scales is not None
    steps = torch.from_numpy(scales).float()
    off = (decode(stored, scales, "int8").float() - tokens).abs()
    # Half a step; and what two roundings to half precision add, of the scale and of the product.
    assert bool((off <= steps * (0.5 + 127 * 2**-11) + tokens.abs() * 2**-10 + 2**-24).all())


@pytest.mark.parametrize("number_format", ["fp16", "int8", "bf16"])
def test_numbers_that_a_format_can_not_hold_are_told(number_format: str) -> None:
    for value, said in ((float("nan"), "not finite"), (1e9, "use --format bf16")):
        if number_format == "bf16" and value == 1e9:
            continue
        with pytest.raises(UsageError, match=f"--format {number_format}: can't hold the tokens .*{said}"):
            encode(torch.full((2, 2), value), number_format)  # type: ignore[arg-type]


@pytest.mark.parametrize("number_format", ["fp16", "int8"])
@pytest.mark.parametrize("files", [0, 1, 3])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, encoder: ConvEncoder, files: int, number_format: str
) -> None:
    make(tmp_path / "whole", encoder, number_format=number_format)
    make(tmp_path / "killed", encoder, files=files, number_format=number_format)
    with pytest.raises(UsageError, match=f"train has {files} of 4 files; run the same .* again"):
        FeatureCache(tmp_path / "killed", "train")
    assert make(tmp_path / "killed", encoder, number_format=number_format) == 4 - files, "nothing is done twice"
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert make(tmp_path / "killed", encoder, number_format=number_format) == 0


def make_and_hang(folder: Path, encoder: ConvEncoder, after: int) -> None:
    """In a child process: writes ``after`` files and stops in the middle of the next, as a slow disk would."""
    save, saved = ladic.features.writer._save, []

    def slow(path: Path, array: np.ndarray) -> None:
        if len(saved) == after:
            path.with_name(path.name + ".part").write_bytes(b"half of it")
            time.sleep(60)
        save(path, array)
        saved.append(path)

    ladic.features.writer._save = slow
    make(folder, encoder)


def test_kill_nine_in_the_middle_of_a_file_is_harmless(tmp_path: Path, encoder: ConvEncoder) -> None:
    make(tmp_path / "whole", encoder)
    for written, after in ((0, 1), (1, 2)):  # files there before, and how many more until it hangs
        # A fresh interpreter: a forked one would wait for threads that didn't come along.
        child = multiprocessing.get_context("spawn").Process(
            target=make_and_hang, args=(tmp_path / "killed", encoder, after)
        )
        child.start()
        half, deadline = tmp_path / "killed" / f"train-{written + after:05d}.npy.part", time.monotonic() + 50
        while not half.exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        child.kill()
        child.join()
        assert half.exists()
    assert len(list((tmp_path / "killed").glob("*.npy"))) == 3
    make(tmp_path / "killed", encoder)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_processes_share_the_work_and_end_with_the_same_bytes(tmp_path: Path, encoder: ConvEncoder) -> None:
    make(tmp_path / "whole", encoder)
    assert [make(tmp_path / "shared", encoder, rank=rank, world=3) for rank in (2, 0, 1)] == [1, 2, 1]
    assert contents(tmp_path / "shared") == contents(tmp_path / "whole")


def test_files_cut_off_or_missing_are_named_and_made_again(tmp_path: Path, encoder: ConvEncoder) -> None:
    make(tmp_path, encoder)
    whole = contents(tmp_path)
    file = tmp_path / "train-00001.npy"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UsageError, match=r"train-00001\.npy is cut off \(3 of 4 files are whole\); run the same"):
        FeatureCache(tmp_path, "train")
    file.unlink()
    with pytest.raises(UsageError, match=r"train-00001\.npy is missing \(3 of 4 files are whole\); run the same"):
        FeatureCache(tmp_path, "train")
    assert make(tmp_path, encoder) == 1
    assert contents(tmp_path) == whole


def test_an_index_or_a_manifest_that_is_none(tmp_path: Path, encoder: ConvEncoder) -> None:
    make(tmp_path, encoder)
    (tmp_path / "train.json").write_text('{"images": "x", "ima')
    with pytest.raises(UsageError, match=r"train\.json': not the index of a cache"):
        FeatureCache(tmp_path, "train")
    (tmp_path / "manifest.json").write_text("[1]")
    with pytest.raises(UsageError, match="not the manifest of a cache"):
        FeatureCache(tmp_path, "train")
    (tmp_path / "manifest.json").write_text('{"encoder": "x"}')
    with pytest.raises(UsageError, match=r"the layout of an earlier version \(1, now 2\); make it again"):
        FeatureCache(tmp_path, "train")


def test_broken_pictures_are_kept_by_name(tmp_path: Path, encoder: ConvEncoder) -> None:
    manifest = begin_cache(tmp_path, manifest_of(encoder))
    writer = FeatureWriter(tmp_path, "train", IDS, manifest, ROWS_OF_2)
    for number in writer.missing():
        broken = {2: "image 'c.jpg': broken"} if number == 1 else None
        writer.write(number, torch.zeros(len(writer.range(number)), 2, 16, 8), broken)
    assert writer.finish()
    cache = FeatureCache(tmp_path, "train")
    assert cache.broken == {"c.jpg": "image 'c.jpg': broken"}
    with pytest.raises(UsageError, match=r"'c\.jpg' has no tokens: image 'c\.jpg': broken"):
        cache.tokens("c.jpg")
    assert not list(tmp_path.glob("*.broken.json"))


def test_the_list_of_broken_pictures_is_whole_whoever_is_last(tmp_path: Path, encoder: ConvEncoder) -> None:
    def writer() -> FeatureWriter:
        return FeatureWriter(tmp_path, "train", IDS, begin_cache(tmp_path, manifest_of(encoder)), ROWS_OF_2)

    def write(number: int, broken: dict[int, str] | None = None) -> None:
        one.write(number, torch.zeros(len(one.range(number)), 2, 16, 8), broken)

    one, other = writer(), writer()
    write(1, {2: "broken", 3: "cut off"})
    (tmp_path / "train-00001.npy").unlink()  # killed in between, and its pictures were mended
    for number in range(4):
        write(number, {6: "empty"} if number == 3 else None)
    assert one.finish()
    assert other.finish(), "it saw all files, and no part any more"
    assert FeatureCache(tmp_path, "train").broken == {70: "empty"}
    (tmp_path / "train-00000.npy").unlink()
    one = writer()
    write(0, {1: "gone"})
    one = writer()  # killed before it could finish
    assert not one.complete
    assert one.finish()
    assert FeatureCache(tmp_path, "train").broken == {20: "gone", 70: "empty"}
    assert writer().complete


def test_files_are_mapped_a_few_at_a_time(
    tmp_path: Path, encoder: ConvEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, encoder, number_format="int8")
    monkeypatch.setattr(ladic.features.cache, "MAPS", 2)
    cache, before = FeatureCache(tmp_path, "train"), len(os.listdir("/proc/self/fd"))
    for image_id in [*IDS, *IDS[::-1]]:
        assert torch.isfinite(cache.tokens(image_id, view=1)).all()
    assert len(os.listdir("/proc/self/fd")) - before <= 2
    assert not pickle.loads(pickle.dumps(cache))._files


def test_json_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "a.json", {"é": 1})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{"é": 1}\n'
    monkeypatch.setattr(Path, "write_bytes", lambda *args, **kwargs: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_json(tmp_path / "a.json", {"other": 2})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{"é": 1}\n'


def test_other_images_are_refused_or_start_the_split_again(tmp_path: Path, encoder: ConvEncoder) -> None:
    make(tmp_path, encoder)
    with pytest.raises(UsageError, match=r"its train has other pictures \(7, now 4\); give another folder, or --over"):
        make(tmp_path, encoder, ids=IDS[:4])
    assert make(tmp_path, encoder, ids=IDS[:4], overwrite=True) == 2
    assert torch.equal(FeatureCache(tmp_path, "train").tokens(40), tokens_of(3, 0, encoder).half())


def test_overwriting_makes_the_same_pictures_again(tmp_path: Path, encoder: ConvEncoder) -> None:
    make(tmp_path, encoder)
    make(tmp_path, encoder, split="val")
    whole = contents(tmp_path)
    file = tmp_path / "train-00001.npy"
    file.write_bytes(file.read_bytes()[:-8] + b"damaged!")
    assert make(tmp_path, encoder) == 0, "its size is right"
    assert make(tmp_path, encoder, overwrite=True) == 4
    assert contents(tmp_path) == whole


def test_files_of_others_are_never_removed(tmp_path: Path, encoder: ConvEncoder) -> None:
    make(tmp_path, encoder)
    theirs = {name: name.encode() for name in ("notes.json", "a.npy", "b.part", "train-best.ckpt", "train-1.npy")}
    for name, content in theirs.items():
        (tmp_path / name).write_bytes(content)
    make(tmp_path, ConvEncoder(image_size=16, channels=(8, 8)), overwrite=True)
    make(tmp_path, encoder, ids=IDS[:4], overwrite=True)
    assert {name: contents(tmp_path)[name] for name in theirs} == theirs
    for name in ("manifest.json", "train.json"):
        folder = tmp_path / name.removesuffix(".json")
        write_json(folder / name, {"version": "1.0"})
        with pytest.raises(UsageError, match=f"its {name} is not of a cache that this version can replace"):
            make(folder, encoder, overwrite=True)
        assert list(contents(folder)) == [name]


@pytest.mark.parametrize("files", [1, 99])
def test_another_encoder_is_refused_or_starts_again(tmp_path: Path, encoder: ConvEncoder, files: int) -> None:
    make(tmp_path, encoder, files=files)
    make(tmp_path, encoder, split="val")
    torch.manual_seed(3)
    other = ConvEncoder(image_size=16, channels=(8, 8))
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=r"it holds a cache with weights_sha256 .* instead of .* --overwrite"):
        make(tmp_path, other)
    assert contents(tmp_path) == before, "nothing is lost by a wrong command"
    assert make(tmp_path, other, overwrite=True) == 4, "none of the old tokens pass for the new encoder's"
    cache = FeatureCache(tmp_path, "train")
    cache.check(fingerprint(other, other.preprocess), IDS)
    assert torch.equal(cache.tokens(70), tokens_of(6, 0, other).half())
    with pytest.raises(UsageError, match=r"val\.json is missing; make the cache"):
        FeatureCache(tmp_path, "val")


def test_another_encoder_weights_settings_or_preprocessing_are_refused_by_name(
    tmp_path: Path, encoder: ConvEncoder
) -> None:
    make(tmp_path, encoder)
    cache = FeatureCache(tmp_path, "train")
    torch.manual_seed(9)
    retrained = ConvEncoder(image_size=16, channels=(8, 8))
    wide = ConvEncoder(image_size=16, channels=(8, 16))
    foreign = TimmEncoder("test_resnet", image_size=16)
    bigger = type(encoder.preprocess)(32, encoder.preprocess.mean, encoder.preprocess.std)
    for expected, word in [
        (fingerprint(foreign, foreign.preprocess), r"encoder .*conv\.ConvEncoder"),
        (fingerprint(wide, wide.preprocess), "settings "),
        (fingerprint(retrained, retrained.preprocess), "weights_sha256 "),
        (fingerprint(encoder, bigger), "preprocess "),
    ]:
        with pytest.raises(UsageError, match=f"made with {word}.* the model has .*make it again"):
            cache.check(expected, IDS)


def test_a_sample_is_encoded_again(tmp_path: Path, encoder: ConvEncoder) -> None:
    make(tmp_path, encoder, number_format="int8")
    cache = FeatureCache(tmp_path, "train")
    cache.check_sample(IDS, lambda row: tokens_of(row, 0, encoder), size=7)
    with pytest.raises(UsageError, match=r"its tokens of .* are not those that the encoder gives now \(relative error"):
        cache.check_sample(IDS, lambda row: tokens_of((row + 3) % 7, 0, encoder))


def test_augmented_training_wants_views_made_alike(tmp_path: Path, encoder: ConvEncoder) -> None:
    make(tmp_path, encoder)
    cache = FeatureCache(tmp_path, "train")
    cache.check_views("none")
    cache.check_views("crop")
    with pytest.raises(UsageError, match=r"has 2 views made with augment 'crop'; make it again"):
        cache.check_views("crop-flip")


def test_the_fingerprint_does_not_hang_on_how_the_same_encoder_was_written_down() -> None:
    short = TimmEncoder("test_resnet")
    long = TimmEncoder(
        model_name="test_resnet",
        pretrained=False,
        checkpoint_path=None,
        model_kwargs=None,
        image_size=None,
        frozen=True,
    )
    long.load_state_dict(short.state_dict())
    assert fingerprint(short, short.preprocess) == fingerprint(long, long.preprocess)


def test_missing_images_are_counted_and_the_first_is_named(tmp_path: Path, encoder: ConvEncoder) -> None:
    make(tmp_path, encoder)
    cache = FeatureCache(tmp_path, "train")
    with pytest.raises(UsageError, match=r"2 images of train are not in it, the first is 'x\.jpg'"):
        cache.check(fingerprint(encoder, encoder.preprocess), [10, "x.jpg", 99])


def test_a_folder_that_is_no_cache_is_refused_with_the_command(tmp_path: Path, encoder: ConvEncoder) -> None:
    with pytest.raises(UsageError, match=r"manifest\.json is missing; .*ladic cache-features -c CONFIG --output"):
        FeatureCache(tmp_path, "train")
    make(tmp_path, encoder)
    with pytest.raises(UsageError, match=r"test\.json is missing"):
        FeatureCache(tmp_path, "test")
