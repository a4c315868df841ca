"""Commands that fit something: wrong numbers and places are told before the work, and what is written is whole."""

import errno
import os
from pathlib import Path

import pytest
import torch
from tiny_run import error_line, write_config

from ladic.cli.fitting import check_output
from ladic.errors import UsageError
from ladic.expected_ngrams import ExpectedNgrams
from ladic.json_files import write_whole
from ladic.metrics.functional.cider import DocumentFrequencies
from ladic.phrases import PhraseDetector
from ladic.rounding import TrigramModel
from ladic.testing import tiny_text_space

ENDINGS = {
    "pretrain-text": "",
    "pretrain-image": ".safetensors",
    "fit-space": ".safetensors",
    "fit-phrases": ".safetensors",
    "fit-words": ".safetensors",
    "fit-ngrams": ".safetensors",
    "fit-frequencies": ".json.gz",
}


@pytest.mark.parametrize("command", ENDINGS)
def test_where_nothing_can_be_written_is_told_before_the_work(cli, tmp_path: Path, command: str) -> None:
    config = write_config(tmp_path)
    (tmp_path / "file").write_text("here already")
    output = tmp_path / "file" / f"fitted{ENDINGS[command]}"
    done = cli(command, "-c", config, "--output", output)
    assert (done.code, done.stdout) == (2, "")
    what = "file" if ENDINGS[command] else "folder"
    assert error_line(done.stderr) == (
        f"--output {output}: can't be written (a file stands where a folder has to be); give a {what} at another place"
    )


def test_a_place_is_tried_and_left_clean(tmp_path: Path) -> None:
    check_output(tmp_path / "a" / "b.safetensors")
    check_output(tmp_path / "a" / "c", folder=True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "c"]
    with pytest.raises(UsageError, match=r"c: a folder has that name; give the name of a file"):
        check_output(tmp_path / "a" / "c")
    with pytest.raises(UsageError, match=r"can't be written \(File name too long\)"):
        check_output(tmp_path / ("x" * 255))


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("pretrain-text", ["--heads=0"], "--heads 0: need at least 1"),
        ("pretrain-text", ["--steps=0"], "--steps 0: need at least 1"),
        ("pretrain-text", ["--captions=0"], "--captions 0: need at least 1"),
        ("pretrain-text", ["--length=2"], "--length 2: need at least 3, for a word between [CLS] and [SEP]"),
        ("pretrain-image", ["--batch-size=0"], "--batch-size 0: need at least 1"),
        ("pretrain-image", ["--learning-rate=0"], "--learning-rate 0: need more than 0"),
        ("fit-phrases", ["--steps=0"], "--steps 0: need at least 1"),
        ("fit-phrases", ["--batch-size=-1"], "--batch-size -1: need at least 1"),
        ("fit-space", ["--batch-size=0"], "--batch-size 0: need at least 1"),
        ("fit-space", ["--captions=0"], "--captions 0: need at least 1"),
        ("fit-space", ["--head-steps=-1"], "--head-steps -1: need 0 or more"),
    ],
)
def test_numbers_out_of_range(cli, command: str, words: list[str], message: str) -> None:
    done = cli(command, "-c", "any.yaml", "--output", f"out{ENDINGS[command]}", *words)
    assert (done.code, done.stdout, error_line(done.stderr)) == (2, "", message)


def test_an_encoder_is_not_trained_on_no_phrases(cli, tmp_path: Path) -> None:
    output = tmp_path / "encoder.safetensors"
    done = cli("pretrain-image", "-c", write_config(tmp_path), "--output", output, "--least=2", "--steps=1")
    assert done.code == 2
    assert error_line(done.stderr) == "--least 2.0: no phrase is in so many pictures; give a smaller share"
    assert not output.exists()


SAVERS = {
    "space": lambda file: tiny_text_space().save_fit(file),
    "phrases": lambda file: PhraseDetector({"a dog": 0.5}, 4).save(file),
    "words": lambda file: ExpectedNgrams.fit(torch.randn(2, 3), [["a dog"], ["a cat"]], 1, 1.0).save(file),
    "ngrams": lambda file: TrigramModel.count(torch.tensor([[1, 7, 8, 2]]), torch.tensor([4])).save(file),
    "frequencies": lambda file: DocumentFrequencies.from_references([["a dog"], ["a cat"]]).save(file),
}


@pytest.mark.parametrize("saver", SAVERS)
def test_a_full_disk_leaves_the_file_of_before(tmp_path: Path, monkeypatch, saver: str) -> None:
    def full(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # the system names no file

    file = tmp_path / "fitted"
    file.write_bytes(b"from before")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left on device") as raised:
            SAVERS[saver](file)
    assert raised.value.filename == str(file)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("fitted", b"from before")]
    SAVERS[saver](file)
    assert [path.name for path in tmp_path.iterdir()] == ["fitted"]
    assert file.stat().st_size > 100 or saver == "frequencies"


def test_the_file_that_cannot_be_replaced_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError) as raised:
        write_whole(tmp_path / "a", b"x")
    assert str(raised.value).endswith(f"'{tmp_path / 'a'}'")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
