"""The cache of image tokens: goes on after a kill, and refuses what it was not made for."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ladic.components import ConvEncoder, TimmEncoder
from ladic.errors import UsageError
from ladic.features import FeatureCache, FeatureWriter, begin_cache, fingerprint, write_json

IDS: list[int | str] = [10, 20, "c.jpg", 40, 50, 60, 70]


@pytest.fixture(scope="module")
def encoder() -> ConvEncoder:
    torch.manual_seed(2)
    return ConvEncoder(image_size=16, channels=(8, 8))


def tokens_of(rows: range, encoder: ConvEncoder) -> Tensor:
    images = torch.stack([torch.full((3, 16, 16), row / 10) for row in rows])
    return encoder(images)


def make(
    folder: Path, encoder: ConvEncoder, ids: list[int | str] = IDS, batches: int = 99, split: str = "train"
) -> int:
    """``ladic cache-features`` in small; stops after some batches as if killed. Returns how many were computed."""
    begin_cache(folder, fingerprint(encoder, encoder.preprocess))
    writer = FeatureWriter(folder, split, ids, (encoder.num_tokens, encoder.width))
    computed = 0
    for start in range(writer.done, len(ids), 2):
        if computed == batches:
            break
        writer.write(tokens_of(range(start, min(start + 2, len(ids))), encoder))
        computed += 1
    return computed


def expected(encoder: ConvEncoder) -> list[Tensor]:
    """What the cache must hold, computed in the same batches."""
    batches = [tokens_of(range(start, min(start + 2, len(IDS))), encoder) for start in range(0, len(IDS), 2)]
    return list(torch.cat(batches).half())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_tokens_come_back_by_image_id_in_half_precision(tmp_path: Path, encoder: ConvEncoder) -> None:
    make(tmp_path, encoder)
    cache = FeatureCache(tmp_path, "train")
    cache.check(fingerprint(encoder, encoder.preprocess), IDS[::-1])
    for image_id, tokens in zip(IDS, expected(encoder), strict=True):
        assert torch.equal(cache.tokens(image_id), tokens)


@pytest.mark.parametrize("batches", [0, 1, 3])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, encoder: ConvEncoder, batches: int) -> None:
    make(tmp_path / "whole", encoder)
    make(tmp_path / "killed", encoder, batches=batches)
    with pytest.raises(UsageError, match=f"train has {2 * batches} of 7 images; run the same .* again"):
        FeatureCache(tmp_path / "killed", "train")
    assert make(tmp_path / "killed", encoder) == 4 - batches, "what was done is not done again"
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert make(tmp_path / "killed", encoder) == 0


def test_a_kill_between_the_tokens_and_their_record_is_harmless(
    tmp_path: Path, encoder: ConvEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "whole", encoder)
    make(tmp_path / "killed", encoder, batches=1)

    def killed(self: FeatureWriter) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FeatureWriter, "_record", killed)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / "killed", encoder)
    make(tmp_path / "killed", encoder)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_json_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "a.json", {"é": 1})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{"é": 1}\n'
    monkeypatch.setattr(Path, "write_text", lambda *args, **kwargs: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_json(tmp_path / "a.json", {"other": 2})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{"é": 1}\n'


def test_other_images_start_the_split_again(tmp_path: Path, encoder: ConvEncoder) -> None:
    make(tmp_path, encoder)
    assert make(tmp_path, encoder, ids=IDS[:4]) == 2
    assert torch.equal(FeatureCache(tmp_path, "train").tokens(40), expected(encoder)[3])


@pytest.mark.parametrize("batches", [1, 99])
def test_another_encoder_starts_again_whole_or_half_made(tmp_path: Path, encoder: ConvEncoder, batches: int) -> None:
    make(tmp_path, encoder, batches=batches)
    make(tmp_path, encoder, split="val")
    torch.manual_seed(3)
    other = ConvEncoder(image_size=16, channels=(8, 8))
    assert make(tmp_path, other) == 4, "none of the old tokens pass for the new encoder's"
    cache = FeatureCache(tmp_path, "train")
    cache.check(fingerprint(other, other.preprocess), IDS)
    for image_id, tokens in zip(IDS, expected(other), strict=True):
        assert torch.equal(cache.tokens(image_id), tokens)
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
        (fingerprint(foreign, foreign.preprocess), r"encoder ladic\.components\.image_encoders\.conv\.ConvEncoder"),
        (fingerprint(wide, wide.preprocess), "settings "),
        (fingerprint(retrained, retrained.preprocess), "weights_sha256 "),
        (fingerprint(encoder, bigger), "preprocess "),
    ]:
        with pytest.raises(UsageError, match=f"made with {word}.* the model has .*make it again"):
            cache.check(expected, IDS)


def test_the_fingerprint_does_not_hang_on_how_the_same_encoder_was_written_down(tmp_path: Path) -> None:
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
