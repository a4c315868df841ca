"""Files made to do harm: they are refused in one line, and nothing in them runs."""

import contextlib
import json
import pickle
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_run import error_line, karpathy_entry, tiny_config, write_config

from ladic import memory
from ladic.checkpoint_io import AtomicCheckpointIO
from ladic.checkpoints import read_checkpoint
from ladic.datamodules.cleaning import CLEANINGS, clean
from ladic.datamodules.images import open_image
from ladic.datamodules.readers.blip import read_blip
from ladic.datamodules.readers.coco_json import read_coco
from ladic.datamodules.readers.karpathy import read_karpathy
from ladic.datamodules.readers.paragraphs import read_paragraphs
from ladic.datamodules.readers.split_list import read_splits
from ladic.errors import UsageError
from ladic.json_files import write_json
from ladic.metrics.caption_files import read_captions, read_ids, read_references
from ladic.metrics.functional.ptb_tokenizer import ptb_tokenize
from ladic.testing import tiny_text_space

READERS = (
    read_karpathy,
    read_coco,
    partial(read_blip, split="train", numbered=True),
    read_paragraphs,
    partial(read_splits, numbered=True),
    read_captions,
    read_references,
)


class Payload:
    """Unpickling it writes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_with_a_pickle_payload_is_refused(cli, tmp_path, zipped):
    mark, file = tmp_path / "ran", tmp_path / "evil.ckpt"
    evil = {"ladic": {"format": 1}, "state_dict": {}, "x": Payload(mark)}
    if zipped:
        torch.save(evil, file)
    else:
        file.write_bytes(pickle.dumps(evil))
    with pytest.raises(UsageError, match="can't be read"):
        read_checkpoint(file)
    with pytest.raises(UsageError, match="can't be read"):
        AtomicCheckpointIO().load_checkpoint(file, weights_only=False)
    for words in (
        ["fit", "-c", write_config(tmp_path), f"--ckpt_path={file}"],
        ["caption", "x.png", "--checkpoint", file],
    ):
        done = cli(*words)
        assert done.code == 2
        assert "can't be read" in error_line(done.stderr)
    assert not mark.exists()


@pytest.mark.parametrize(
    "path", ["subprocess.Popen", "os.system", "pathlib.Path", "ladic.components.samplers.DDIMSampler"]
)
def test_a_checkpoint_builds_components_only(tmp_path, trained, path):
    from ladic.captioner import LatentDiffusionCaptioner

    checkpoint = read_checkpoint(trained)
    checkpoint["ladic"]["components"]["image_encoder"] = {
        "class_path": path,
        "init_args": {"args": f"touch {tmp_path}/ran"},
    }
    torch.save(checkpoint, tmp_path / "evil.ckpt")
    with pytest.raises(UsageError, match="is not a ImageEncoder"):
        LatentDiffusionCaptioner.load_from_checkpoint(tmp_path / "evil.ckpt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "line",
    ["!!python/object/apply:os.system ['touch {}']", "!!python/object/new:subprocess.Popen [['touch', '{}']]",
     "!!python/name:os.system"],
)  # fmt: skip
def test_yaml_runs_no_code(cli, tmp_path, line):
    mark, file = tmp_path / "ran", tmp_path / "evil.yaml"
    file.write_text(f"seed_everything: {line.format(mark)}\n")
    done = cli("fit", "-c", file)
    assert done.code == 2
    error_line(done.stderr)
    assert not mark.exists()


@pytest.mark.parametrize("part", ["image_encoder", "sampler", "optimizer"])
def test_yaml_builds_no_strangers(cli, tmp_path, part):
    config = tiny_config(tmp_path)
    config["model"][part] = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(tmp_path / "ran")]}}
    done = cli("fit", "-c", write_config(tmp_path, config))
    assert done.code == 2
    error_line(done.stderr)
    assert not (tmp_path / "ran").exists()


def test_yaml_that_grows(cli, tmp_path):
    lines = ["k0: &k0 [x, x, x, x, x, x, x, x, x]"]  # nine to the ninth words in nine lines
    lines += [f"k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 9)}]" for n in range(1, 9)]
    (tmp_path / "bomb.yaml").write_text("\n".join(lines))
    done = cli("fit", "-c", tmp_path / "bomb.yaml")
    assert done.code == 2
    assert len(error_line(done.stderr)) < 500


NAMES = ["../../etc/passwd", "/etc/passwd", "a/../../b.jpg"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("where", ["filename", "filepath"])
def test_an_annotation_file_does_not_leave_the_folder(tmp_path, name, where):
    entry = karpathy_entry("x.jpg", "train") | {where: name}
    (tmp_path / "a.json").write_text(json.dumps({"images": [entry]}))
    with pytest.raises(UsageError, match="leaves the folder of pictures"):
        read_karpathy(tmp_path / "a.json")


def test_a_picture_that_grows_is_refused(tmp_path):
    from PIL import Image

    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")  # 400 megapixels in 50 kB
    assert (tmp_path / "bomb.png").stat().st_size < 200_000
    with pytest.raises(UsageError, match=r"bomb\.png': broken .*decompression bomb"):
        open_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"images": ' * 50_000, "9" * 10_000, '"\\ud800"', "NaN", "", "\x00"])
def test_json_that_breaks_readers(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    for read in READERS:
        with pytest.raises(UsageError) as told:
            read(tmp_path / "a.json")
        assert len(str(told.value)) < 1000


def test_a_file_that_memory_can_not_hold_is_told_before_it_is_read(tmp_path):
    file = tmp_path / "a.json"
    with file.open("wb") as opened:
        opened.truncate(2**42)  # 4 TiB of nothing, which take no room on the disk
    for read in (*READERS, read_ids):
        with pytest.raises(UsageError, match="larger than memory can hold"):
            read(file)


def test_half_a_character_is_replaced_and_a_whole_one_kept(tmp_path):
    entry = karpathy_entry("x.jpg", "train", ["a dog \ud83d runs", "a \U0001f600 cat"])
    (tmp_path / "a.json").write_text(json.dumps({"images": [entry]}))
    (record,) = read_karpathy(tmp_path / "a.json")
    assert record.captions == ("a dog \ufffd runs", "a \U0001f600 cat")
    tiny_text_space().tokenize(["a dog \ud83d runs"])
    write_json(tmp_path / "b.json", ["\udc80.jpg"])  # a file's name that is no UTF-8
    assert json.loads((tmp_path / "b.json").read_text()) == ["\udc80.jpg"]


@pytest.mark.parametrize(
    ("line", "files"),
    [
        ("0::/system/job_7/step", {"system/job_7/memory.max": "3000000", "system/job_7/memory.current": "1000000",
                                   "system/job_7/memory.stat": "file 5\ninactive_file 500000\n",
                                   "system/job_7/step/memory.max": "max"}),
        ("0::/", {"memory.max": "2500000", "memory.current": "0"}),
        ("4:cpu,memory:/job_7", {"memory/job_7/memory.limit_in_bytes": "3000000",
                                 "memory/job_7/memory.usage_in_bytes": "500000"}),
        ("0::/of/the/host", {"memory.max": "2500000", "memory.current": "0"}),
    ],
)  # fmt: skip
def test_memory_is_what_the_job_may_have(tmp_path, monkeypatch, line, files):
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text(f"7:devices:/x\n{line}\n")
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable:    8000000 kB\n")
    for name, text in files.items():
        file = tmp_path / "groups" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.setattr(memory, "PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "groups")
    assert memory.free_memory() == 2_500_000
    (tmp_path / "a.json").write_text("[" + " " * 400_000 + "]")
    with pytest.raises(UsageError, match="larger than memory can hold"):
        read_karpathy(tmp_path / "a.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(["images", "annotations", "sentences", "raw", "filename", "filepath", "split", "image_id", "id",
                         "caption", "paragraph", "cocoid", "file_name", "imgid", "references"]) | st.text(max_size=4),
        inner, max_size=5,
    ),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(JSON)
def test_readers_answer_any_json_with_a_result_or_one_line(tmp_path_factory, value):
    file = tmp_path_factory.getbasetemp() / "any.json"
    file.write_text(json.dumps(value))
    for read in (*READERS, read_ids):
        with contextlib.suppress(UsageError):
            read(file)


SPACE = tiny_text_space()
ANY_TEXT = st.text(st.characters(), max_size=40) | st.text("a b.-'\"\\ud800\x00\u200b\U0001f600()[]#", max_size=40)


@settings(max_examples=150, deadline=None)
@given(ANY_TEXT)
def test_tokenizers_take_any_text(text):
    assert isinstance(ptb_tokenize(text), str)
    assert all(isinstance(clean(text, cleaning), str) for cleaning in CLEANINGS)
    batch = SPACE.tokenize([text])
    assert batch.input_ids.shape == (1, SPACE.length)
    assert isinstance(SPACE.to_text(torch.zeros(1, SPACE.length, dtype=torch.long))[0], str)
