"""``ladic caption``: what it prints, for which files, and what it says of files it can't read."""

import json

import pytest
import torch
from tiny_run import error_line, picture

import ladic.inference
from ladic.captioner_base import Captioner
from ladic.metrics.functional.cider import DocumentFrequencies

COLOURS = {"a.png": "red", "b.jpg": "green", "c d.png": "blue", "größe-犬.png": "yellow"}


@pytest.fixture
def folder(tmp_path):
    for name, colour in COLOURS.items():
        picture(tmp_path / "pictures" / name, colour)
    (tmp_path / "pictures" / "notes.txt").write_text("no picture")
    return tmp_path / "pictures"


@pytest.fixture
def caption(cli, trained):
    def run(*words):
        return cli("caption", *words, f"--checkpoint={trained}")

    return run


def records(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_one_file_gives_the_bare_caption(caption, folder):
    done = caption(folder / "a.png")
    assert (done.code, done.stderr, len(done.stdout.splitlines())) == (0, "", 1)
    assert "a.png" not in done.stdout


def test_several_files_are_named_in_the_order_given(caption, folder):
    done = caption(folder / "größe-犬.png", folder / "c d.png")
    names = [line.rpartition(": ")[0] for line in done.stdout.splitlines()]
    assert names == [str(folder / "größe-犬.png"), str(folder / "c d.png")]


def test_a_folder_gives_its_pictures_sorted(caption, folder):
    done = caption(folder, "--json")
    assert done.code == 0
    assert [record["image"] for record in records(done)] == sorted(str(folder / name) for name in COLOURS)


def test_a_glob_gives_what_matches(caption, folder):
    assert len(records(caption(folder / "*.png", "--json"))) == 3


def test_a_name_with_brackets_is_a_file_before_it_is_a_glob(caption, tmp_path):
    file = picture(tmp_path / "scan [1].png")
    assert records(caption(file, "--json"))[0]["image"] == str(file)


def test_json_holds_every_candidate(caption, folder):
    done = caption(folder / "größe-犬.png", "--json", "--num-candidates=3", "--num-steps=4", "--guidance-scale=1")
    (record,) = records(done)
    assert "größe-犬.png" in done.stdout
    assert record["caption"] in record["candidates"]
    assert (len(record["candidates"]), record["nfe"]) == (3, 4)


def test_a_caption_depends_on_nothing_but_its_picture(caption, folder, tmp_path):
    together = {record["image"]: record["candidates"] for record in records(caption(folder, "--json"))}
    pairs = {record["image"]: record["candidates"] for record in records(caption(folder, "--json", "--batch-size=2"))}
    alone = records(caption(folder / "b.jpg", "--json"))[0]["candidates"]
    (tmp_path / "renamed.jpg").write_bytes((folder / "b.jpg").read_bytes())
    renamed = records(caption(tmp_path / "renamed.jpg", "--json"))[0]["candidates"]
    assert together == pairs
    assert together[str(folder / "b.jpg")] == alone == renamed


@pytest.fixture
def shapes(monkeypatch):
    """Numbers of pictures that the model was handed at a time."""
    real, seen = ladic.inference.encoded, []
    monkeypatch.setattr(ladic.inference, "encoded", lambda model, rows: seen.append(len(rows)) or real(model, rows))
    return seen


def test_a_batch_is_as_large_as_was_asked_for(caption, folder, shapes):
    file = folder / "a.png"
    assert len(caption(*[file] * 35, "--batch-size=34", "--num-steps=1").stdout.splitlines()) == 35
    assert shapes == [34, 1]


def test_what_is_compiled_sees_one_shape(caption, folder, shapes, monkeypatch):
    plain = caption(folder, folder / "a.png", "--batch-size=2")
    monkeypatch.setattr(Captioner, "accelerate", lambda model, *_: setattr(model, "compiled", True))
    done = caption(folder, folder / "a.png", "--batch-size=2", "--compile")
    assert done.stdout == plain.stdout
    assert shapes == [2, 2, 1, 2, 2, 2]


def test_frequencies_are_read_once_for_all_pictures(caption, folder, tmp_path, monkeypatch):
    counted = DocumentFrequencies.from_references([["a red circle"], ["a blue square"]])
    counted.save(tmp_path / "counts.gz")
    real, read = DocumentFrequencies.load, []
    monkeypatch.setattr(DocumentFrequencies, "load", lambda path: read.append(path) or real(path))
    words = ["--utility=cider", f"--frequencies={tmp_path / 'counts.gz'}", "--num-captions=2", "--num-candidates=3"]
    done = caption(folder, *words, "--json")
    assert [len(record["captions"]) for record in records(done)] == [2] * 4
    assert len(read) == 2, "the selector's and the diversity's"


@pytest.mark.parametrize("device", ["cuda", "mps", "cuda:99", "toaster"])
def test_a_device_that_is_not_there_is_not_the_checkpoints_fault(caption, folder, device):
    if device.partition(":")[0] == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    told = error_line(caption(folder / "a.png", f"--device={device}").stderr)
    assert told.startswith(f"--device {device}: this machine has none (")
    assert told.endswith("; give auto or cpu")
    assert "checkpoint" not in told


def test_the_seed_is_the_noise(caption, folder):
    first, again, other = (
        caption(folder, "--json", "--num-candidates=4", f"--seed={seed}").stdout for seed in (1, 1, 2)
    )
    assert first == again != other


def test_broken_files_are_named_and_the_others_captioned(caption, folder):
    whole = (folder / "b.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("not a picture")
    (folder / "empty.png").write_bytes(b"")
    done = caption(folder, folder / "gone.png", "--json")
    assert done.code == 1
    assert {record["image"] for record in records(done)} == {str(folder / name) for name in COLOURS}
    lines = done.stderr.splitlines()
    assert len(lines) == 4
    for name, reason in {
        "cut.jpg": "broken",
        "text.png": "not a picture",
        "empty.png": "an empty file",
        "gone.png": "no such file",
    }.items():
        assert [line for line in lines if line.startswith(f"error: image '{folder / name}': {reason}")], lines


def test_only_broken_files(caption, tmp_path):
    done = caption(tmp_path / "gone.png")
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr == f"error: image '{tmp_path / 'gone.png'}': no such file\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{folder}/*.gif"], "no file matches"),
        (["{folder}/empty"], "the folder has no pictures"),
        (["{folder}/a.png", "--num-candidates=0"], "--num-candidates 0: need at least 1"),
        (["{folder}/a.png", "--num-steps=x"], "--num-steps: invalid int value: 'x'"),
        (["{folder}/a.png", "--device=toaster"], "--device toaster"),
        ([], "the following arguments are required: IMAGE"),
    ],
)
def test_wrong_words_are_one_line(caption, folder, words, message):
    (folder / "empty").mkdir()
    done = caption(*(word.format(folder=folder) for word in words))
    assert (done.code, done.stdout) == (2, "")
    assert message in error_line(done.stderr)


def test_a_missing_foreign_or_damaged_checkpoint_is_one_line(cli, folder, trained, tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    whole = (trained / "last.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.ckpt").write_text("hello")
    (tmp_path / "empty").mkdir()
    for name, message in {
        "gone.ckpt": "no such file or folder; give the .ckpt file or the folder of a run",
        "empty": "holds no .ckpt file",
        "foreign.ckpt": "not written by ladic; give one that `ladic fit` wrote",
        "cut.ckpt": "can't be read",
        "text.ckpt": "can't be read",
    }.items():
        done = cli("caption", folder / "a.png", f"--checkpoint={tmp_path / name}")
        assert (done.code, done.stdout) == (2, "")
        line = error_line(done.stderr)
        assert line.startswith(f"checkpoint '{tmp_path / name}'"), line
        assert message in line


def test_a_checkpoint_with_code_in_it_is_refused(cli, folder, tmp_path):
    class Dangerous:
        def __reduce__(self):
            return (print, ("ran!",))

    torch.save({"ladic": Dangerous()}, tmp_path / "code.ckpt")
    done = cli("caption", folder / "a.png", f"--checkpoint={tmp_path / 'code.ckpt'}")
    assert done.code == 2
    assert "ran!" not in done.stdout
    told = error_line(done.stderr)
    assert "can't be read: it is no checkpoint, or has code in it, which ladic never runs; give one" in told
    assert "trust" not in told


def test_several_captions_of_a_picture_with_their_diversity(caption, folder, tmp_path):
    words = ["--num-captions=3", "--num-candidates=6", "--seed=1"]
    plain = caption(folder / "a.png", *words)
    (record,) = records(caption(folder / "a.png", *words, "--json"))
    assert plain.stdout.splitlines() == record["captions"]
    assert record["captions"][0] == record["caption"]
    assert len(set(record["captions"])) == len(record["captions"]) <= 3
    if len(record["captions"]) > 1:
        assert set(record["diversity"]) == {"distinct-1", "distinct-2", "mBLEU-4", "self-CIDEr"}
    diverse = records(caption(folder / "a.png", *words, "--json", "--diverse"))[0]
    assert diverse["candidates"] == record["candidates"]
    assert diverse["caption"] == record["caption"], "the best comes first either way"


def test_selectors_and_samplers_by_flags(caption, folder):
    drawn = records(caption(folder / "a.png", "--json", "--num-candidates=4"))[0]
    first = records(caption(folder / "a.png", "--json", "--num-candidates=4", "--rerank=first"))[0]
    assert first["candidates"] == drawn["candidates"]
    assert first["caption"] == first["candidates"][0]
    judged = records(caption(folder / "a.png", "--json", "--num-candidates=4", "--rerank=reconstruction"))[0]
    assert judged["selection_nfe"] > 0 == drawn["selection_nfe"]
    assert judged["caption"] == judged["candidates"][judged["scores"].index(max(judged["scores"]))]
    other = records(caption(folder / "a.png", "--json", "--sampler=HeunSampler:num_steps=3", "--guidance-scale=1"))[0]
    assert other["nfe"] == 5


def test_the_length_is_what_was_asked_for(caption, folder):
    def candidates(*words):
        return records(caption(folder / "a.png", "--json", "--num-candidates=4", *words))[0]["candidates"]

    # Random weights say pieces of words too: one token is at most one word, nine are at least nine characters.
    assert all(len(text.split()) <= 1 for text in candidates("--length=1") + candidates("--max-length=1"))
    assert all(len(text.replace(" ", "")) >= 9 for text in candidates("--min-length=9") + candidates("--length=10"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--diverse"], "--diverse: is about several captions; give --num-captions too"),
        (["--num-captions=4", "--num-candidates=2"], "num_captions=4, num_candidates=2"),
        (["--rerank=clip", "--utility=cider"], "--utility: is for --rerank mbr"),
        (["--clip-model=ViT-B-32"], "--clip-model: is for --rerank clip"),
        (["--utility=cider"], "--utility cider: needs --frequencies FILE; `ladic fit-frequencies` makes one"),
        (["--frequencies=x"], "--frequencies: is for --utility cider"),
        (["--rerank=best"], "--rerank: invalid choice: 'best'"),
        (["--length=20"], "length of 20 tokens: the model's length is 12, which holds 10"),
    ],
)
def test_options_that_do_not_fit_together_are_one_line(caption, folder, words, message):
    done = caption(folder / "a.png", *words)
    assert (done.code, done.stdout) == (2, "")
    assert message in error_line(done.stderr)
