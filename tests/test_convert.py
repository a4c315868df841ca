"""``ladic convert``: released weights in, safetensors out and back, and what it says of files that don't fit."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from released_state import FULL, released_state, tiny_state, write_vocabulary
from tiny_run import error_line, picture

from ladic.captioner import LatentDiffusionCaptioner
from ladic.errors import UsageError
from ladic.safe_pickle import load_tensor

HEADS = ["--text-heads=4", "--image-heads=4", "--diffuser-heads=8"]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A tiny released project: weights, statistics as it pickles them, and a vocabulary."""
    write_vocabulary(tmp_path / "vocab.txt")
    torch.save(tiny_state(), tmp_path / "pytorch_model.bin")
    for name, value in (("mean", torch.randn(16)), ("std", 0.5 + torch.rand(16))):
        (tmp_path / f"{name}.pickle").write_bytes(pickle.dumps(value))
    return tmp_path


def flags(files: Path) -> list[str]:
    return [
        f"--mean={files / 'mean.pickle'}",
        f"--std={files / 'std.pickle'}",
        f"--tokenizer={files / 'vocab.txt'}",
        *HEADS,
    ]


@pytest.mark.parametrize("time_norm", [True, False])
def test_released_weights_become_a_checkpoint_that_captions(cli: Any, files: Path, time_norm: bool) -> None:
    torch.save(tiny_state(1, time_norm), files / "pytorch_model.bin")
    done = cli("convert", files / "pytorch_model.bin", "--output", files / "ladic.ckpt", *flags(files))
    assert done.code == 0, done.stderr
    assert f"{'with' if time_norm else 'without'} the LayerNorm on the time vector" in done.stdout
    for dead in ("space_decoder.", "diffuser.embeddings.word_embeddings.weight", "position_ids"):
        assert dead in done.stdout
    model = LatentDiffusionCaptioner.load_from_checkpoint(files / "ladic.ckpt")
    mean = pickle.loads((files / "mean.pickle").read_bytes())
    assert torch.equal(model.latent_space.normalizer.mean, mean)
    assert bool(model.latent_space.normalizer.fitted)
    assert model.sampler.num_steps == 34  # a stride of 30
    done = cli("caption", picture(files / "a.png"), "--checkpoint", files / "ladic.ckpt", "--json")
    assert done.code == 0, done.stderr


@pytest.mark.skipif(not os.environ.get("LADIC_SLOW"), reason="writes 5 GB in a minute; LADIC_SLOW=1 runs it")
def test_a_full_size_state_dict_converts_within_six_gigabytes(tmp_path: Path) -> None:
    values = iter(range(10_000))
    state = released_state(lambda shape, scale, mean: torch.full(shape, next(values) / 1000), FULL)
    expected = state["diffuser.encoder.layer.11.output.dense.weight"][0, 0]
    torch.save(state, tmp_path / "pytorch_model.bin")
    del state
    write_vocabulary(tmp_path / "vocab.txt", 30522)
    for name in ("mean", "std"):
        (tmp_path / f"{name}.pickle").write_bytes(pickle.dumps(torch.ones(768)))
    words = ["convert", tmp_path / "pytorch_model.bin", "--output", tmp_path / "released.ckpt", *flags(tmp_path)[:3]]
    code = "import resource, sys; from ladic.cli.main import main; main(sys.argv[1:]); "
    code += "print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout.split("peak")[1]) / 1e9
    print(f"peak {peak:.2f} GB")
    assert peak < 6
    converted = torch.load(tmp_path / "released.ckpt", weights_only=True, mmap=True)["state_dict"]
    assert converted["denoiser.blocks.11.feed_forward.2.weight"][5, 7] == expected


def test_a_checkpoint_goes_to_safetensors_and_back(cli: Any, trained: Path, tmp_path: Path) -> None:
    done = cli("convert", trained, "--output", tmp_path / "export")
    assert done.code == 0, done.stderr
    config = yaml.safe_load((tmp_path / "export" / "config.yaml").read_text())
    assert config["model"]["denoiser"]["init_args"]["hidden_width"] == 16
    assert json.loads((tmp_path / "export" / "tokenizer.json").read_text())["model"]["type"] == "WordPiece"
    done = cli("convert", tmp_path / "export", "--output", tmp_path / "again.ckpt")
    assert done.code == 0, done.stderr
    one, other = (LatentDiffusionCaptioner.load_from_checkpoint(path) for path in (trained, tmp_path / "again.ckpt"))
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert one.description()["settings"] == other.description()["settings"]


def test_an_exported_config_builds_a_model(cli: Any, trained: Path, tmp_path: Path) -> None:
    assert cli("convert", trained, "--output", tmp_path / "export").code == 0
    data = ["--data=ShapesDataModule", "--data.num_train=4", "--data.num_eval=2", "--data.size=32"]
    done = cli("fit", "-c", tmp_path / "export" / "config.yaml", *data, "--print_config")
    assert done.code == 0, done.stderr
    printed = yaml.safe_load(done.stdout)["model"]
    assert printed["sampler"]["init_args"]["num_steps"] == 2


def change(files: Path, **changes: Any) -> None:
    """Rewrites the released weights with keys added, replaced or (None) left out."""
    state = tiny_state() | {key.replace("__", "."): value for key, value in changes.items()}
    torch.save({key: value for key, value in state.items() if value is not None}, files / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"diffuser__pooler__weight": torch.zeros(2)}, "1 keys are not known: diffuser.pooler.weight"),
        ({"visual_encoder__norm__bias": None}, "image_encoder.model.norm.bias missing"),
        ({"diffuser__encoder__layer__1__attention__self__key__bias": None}, "keys or values are missing for"),
        ({"time_layer_norm__bias": torch.zeros(5)}, "denoiser.time.norm.bias (5,) where the model has (32,)"),
        ({"space_encoder__embeddings__word_embeddings__weight": None}, "not a released LaDiC checkpoint"),
        ({"lm_head__predictions__bias": torch.ones(1100)}, "differ, but are one parameter"),
        ({"epoch": 3}, "holds no state dict"),
    ],
)
def test_a_state_dict_that_does_not_fit_is_told_by_its_first_keys(
    cli: Any, files: Path, changes: dict[str, Any], words: str
) -> None:
    change(files, **changes)
    done = cli("convert", files / "pytorch_model.bin", "--output", files / "ladic.ckpt", *flags(files))
    assert done.code == 2
    assert words in error_line(done.stderr)
    assert not (files / "ladic.ckpt").exists()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["{}/pytorch_model.bin", "--output={}/x.ckpt"], "--mean and --std: have to be given for released weights"),
        (["{}/pytorch_model.bin", "--output={}/x.bin"], "the name of a checkpoint must end in .ckpt"),
        (["{}/nothing", "--output={}/x.ckpt"], "no such file or folder"),
        (["{}/pytorch_model.bin", "--output={}/x.ckpt", "F", "--mean={}/none"], "none': no such file"),
        (["{}/pytorch_model.bin", "--output={}/x.ckpt", "F", "--mean={}/vocab.txt"], "not a pickled tensor"),
        (
            ["{}/pytorch_model.bin", "--output={}/x.ckpt", "F", "--mean={}/wide.pt"],
            "has shape (3,); the latents are 16",
        ),
        (["{}/pytorch_model.bin", "--output={}/x.ckpt", "F", "--diffuser-heads=5"], "--diffuser-heads 5: they must"),
        (["{}/vocab.txt", "--output={}/x.ckpt"], "can't be read as tensors"),
        (["{}", "--output={}/out"], "holds no .ckpt file"),
    ],
)
def test_wrong_options_are_told_in_one_line(cli: Any, files: Path, words: list[str], complaint: str) -> None:
    torch.save(torch.ones(3), files / "wide.pt")
    if words[0] == "{}/vocab.txt":
        words = [*words, "F"]
    given = [flag for word in words for flag in (flags(files) if word == "F" else [word.replace("{}", str(files))])]
    done = cli("convert", *given)
    assert done.code == 2
    assert complaint in error_line(done.stderr)


class Harm:
    """Pickles as a call of a function; to load it is to run that."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def test_statistics_load_from_every_kind_of_file_and_no_code_runs(tmp_path: Path) -> None:
    value = torch.randn(16)
    (tmp_path / "a.pickle").write_bytes(pickle.dumps(value))
    (tmp_path / "b.pickle").write_bytes(pickle.dumps(value.numpy()))
    (tmp_path / "c.pickle").write_bytes(pickle.dumps(torch.nn.Parameter(value)))
    (tmp_path / "old.pickle").write_bytes(pickle.dumps(value, protocol=2))
    torch.save(value, tmp_path / "d.pt")
    for file in ("a.pickle", "b.pickle", "c.pickle", "old.pickle", "d.pt"):
        assert torch.equal(load_tensor(tmp_path / file), value), file

    harm = tmp_path / "harm"
    for content in (pickle.dumps(Harm(harm)), pickle.dumps({"mean": Harm(harm)}), inside_a_tensor(Harm(harm))):
        (tmp_path / "bad.pickle").write_bytes(content)
        with pytest.raises(UsageError, match="not a pickled tensor"):
            load_tensor(tmp_path / "bad.pickle")
        assert not harm.exists()
    (tmp_path / "bad.pickle").write_bytes(pickle.dumps(value)[:-40])
    with pytest.raises(UsageError, match="nothing in it was run"):
        load_tensor(tmp_path / "bad.pickle")
    (tmp_path / "bad.pickle").write_bytes(pickle.dumps("text"))
    with pytest.raises(UsageError, match="holds a str, not a tensor"):
        load_tensor(tmp_path / "bad.pickle")


def inside_a_tensor(harm: Any) -> bytes:
    """A pickled tensor whose storage, a file of torch.save in itself, holds the harm."""
    import io

    buffer = io.BytesIO()
    torch.save(harm, buffer, _use_new_zipfile_serialization=False)

    class Fake:
        def __reduce__(self) -> tuple[Any, ...]:
            return torch.storage._load_from_bytes, (buffer.getvalue(),)

    return pickle.dumps(Fake())
