"""The commands and snippets of README and docs, and a small world in which they run as they stand.

The world has the files that the pages name: ``configs/`` (the shipped ones, shrunk), ``photos/``, ``photo.jpg`` …
Commands run unchanged, but for flags that make the small ones smaller still (``SMALLER``).
"""

from __future__ import annotations

import pickle
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import timm
import torch
import yaml
from data_trees import coco_karpathy, coco_pictures, genome_pictures, stanford
from released_state import tiny_state, write_vocabulary
from safetensors.torch import save_file
from tiny_run import picture, write_json

from ladic.sweep import running

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    str(page.relative_to(ROOT)): page
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "examples" / "plugin" / "README.md"]
}
FENCE = re.compile(
    r"""^(?:<!--\ (?P<mark>[^\n]*?)\ -->\n)?         # a comment before it
    ```(?P<kind>\w+)(?:\ title="(?P<file>[^"]+)")?\n
    (?P<body>.*?)^```$""",
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)

SMALLER = {
    "pretrain-text": "--steps=2 --captions=64 --hidden-size=32 --layers=3 --heads=2",
    "fit-space": "--captions=64 --head-steps=0",
    "pretrain-image": "--steps=2 --batch-size=4 --least=0.2",
    "fit-phrases": "--least=0.2 --steps=2",
    "fit-words": "--least=1",
    "convert": "--tokenizer=vocab.txt --text-heads=4 --image-heads=4 --diffuser-heads=8",  # released weights, but small
    "export": "--format=onnx",  # both formats: tests/test_export.py
    "demo": None,  # runs the commands above at full size
    "serve": None,  # waits for visitors
}
"""Flags added to a command; None where only its words are checked."""

MADE_BY = {
    "demo": (
        "pretrain-text -c configs/demo.yaml --output runs/demo/text",
        "fit-space -c configs/demo.yaml --output runs/demo/space.safetensors",
    )
}
"""What a make target, which is not run, leaves for the lines below it."""

MODEL = {
    "denoiser": {"hidden_width": 16, "num_layers": 1, "num_heads": 2},
    "sampler": {"num_steps": 2},
}
DATA = {"num_train": 16, "num_eval": 4, "batch_size": 8}
# The logger of pictures is in one page's commands and has tests of its own.
TRAINER = {"max_steps": 2, "val_check_interval": 2, "log_every_n_steps": 1, "enable_progress_bar": False}


@dataclass(frozen=True)
class Snippet:
    """A fenced block.

    Attributes:
        page: path in the repository.
        line: where it begins.
        kind: what stands after the fence.
        body: the text.
        mark: what a comment before it says: "not run: REASON".
        file: its title, where it is a file to write.
    """

    page: str
    line: int
    kind: str
    body: str
    mark: str
    file: str


def snippets(page: str) -> list[Snippet]:
    """The fenced blocks of a page, in order."""
    text = PAGES[page].read_text(encoding="utf-8")
    return [
        Snippet(page, text.count("\n", 0, found.start()) + 1, **found.groupdict("")) for found in FENCE.finditer(text)
    ]


def command_lines(body: str) -> list[list[str]]:
    """Words of each command of a console block; comments and continuation lines are understood."""
    joined = body.replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in joined.splitlines()]
    return [words for words in lines if words]


def small_world(folder: Path) -> None:
    """Fills a folder with what the pages name."""
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "slurm").symlink_to(ROOT / "configs" / "slurm")
    for trainer in (ROOT / "configs" / "trainer").glob("*.yaml"):  # on what this machine has
        settings = yaml.safe_load(trainer.read_text(encoding="utf-8"))
        settings["trainer"].update(accelerator="cpu", devices=1, strategy="auto", precision="32-true")
        file = folder / "configs" / "trainer" / trainer.name
        file.parent.mkdir(exist_ok=True)
        file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    distill = yaml.safe_load((ROOT / "configs" / "experiment" / "distill.yaml").read_text(encoding="utf-8"))
    distill["trainer"]["max_steps"] = 2
    (folder / "configs" / "experiment").mkdir()
    (folder / "configs" / "experiment" / "distill.yaml").write_text(yaml.safe_dump(distill), encoding="utf-8")
    (folder / "examples").symlink_to(ROOT / "examples")
    demo = (ROOT / "configs" / "demo.yaml").read_text(encoding="utf-8")
    for name in ("configs/demo.yaml", "my.yaml"):
        (folder / name).write_text(shrunk(demo, DATA), encoding="utf-8")
    for page in PAGES:
        for snippet in snippets(page):
            if snippet.file:
                text = shrunk(snippet.body, {}) if snippet.kind == "yaml" else snippet.body
                (folder / snippet.file).write_text(text, encoding="utf-8")
    picture(folder / "photo.jpg")
    for number, colour in enumerate(("red", "green", "blue")):
        picture(folder / "photos" / f"{number}.png", colour)
    torch.save(tiny_state(), folder / "pytorch_model.bin")
    write_vocabulary(folder / "vocab.txt")
    for name in ("mean", "std"):
        (folder / f"{name}_emb_split.pickle").write_bytes(pickle.dumps(torch.ones(16)))
    coco_karpathy(folder / "coco")
    coco_pictures(folder / "coco" / "images")
    stanford(folder / "stanford")
    genome_pictures(folder / "VG")
    ids = [f"test-{number:06d}" for number in range(4)]
    write_json(folder / "references.json", {i: ["a red circle", "a circle that is red"] for i in ids})
    for name, text in (("results", "a red circle"), ("other", "a blue square")):
        write_json(folder / f"{name}.json", [{"image_id": i, "caption": text} for i in ids])


def shrunk(text: str, data: dict[str, Any]) -> str:
    """A configuration with little to compute in it, and nothing that has to be downloaded; a sweep with little time."""
    config = yaml.safe_load(text)
    if "rows" in config:
        # A second is the least; the small configurations would validate after every other step of it.
        flags = [*config.get("flags", []), "--trainer.val_check_interval=20"]
        return yaml.safe_dump({**config, "minutes": 0.017, "seeds": [0], "flags": flags}, sort_keys=False)
    for part, values in MODEL.items():
        if part in config.get("model", {}):
            config["model"][part]["init_args"].update(values)
    if "num_candidates" in config.get("model", {}):
        config["model"]["num_candidates"] = 2
    encoder = config.get("model", {}).get("image_encoder", {}).get("init_args", {})
    if "pretrained" in encoder:
        encoder["pretrained"] = False
    config.get("data", {}).get("init_args", {}).update(data)
    config["trainer"].update({key: value for key, value in TRAINER.items() if key in config["trainer"] or data})
    config["trainer"]["enable_progress_bar"] = False
    for callback in config["trainer"].get("callbacks", []):
        if callback["class_path"].endswith("CaptionEvaluation"):  # METEOR would start a Java machine each time
            callback.setdefault("init_args", {})["test_metrics"] = ["bleu", "cider", "length"]
    if "precision" in config["trainer"]:
        config["trainer"]["precision"] = "32-true"
    return yaml.safe_dump(config)


def run_command(words: list[str], ladic: Callable[[list[str]], int]) -> None:
    """Runs one command of a page in the working directory; asserts that it worked.

    Args:
        words: of the command line.
        ladic: runs the words after ``ladic`` in this process and returns the exit code.
    """
    program, *rest = words
    if program == "ladic":
        run_ladic(rest, ladic)
    elif program == "make":
        done = subprocess.run(["make", "--dry-run", "-C", str(ROOT), *rest], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        for line in MADE_BY.get(rest[0], ()):
            run_ladic(line.split(), ladic)
    elif program == "pip":
        check_pip(rest)
    elif program == "sbatch":
        script = next(word for word in rest if word.endswith(".sbatch"))
        subprocess.run(["bash", "-n", script], check=True)
        run_ladic(["fit", *rest[rest.index(script) + 1 :], "--print_config"], ladic)
    elif program == "srun":
        run_ladic([word for word in rest[1:] if word != "--ranks"], ladic)  # alone, a rank has nobody to meet
    elif program in ("python", "pytest"):
        start = [sys.executable] if program == "python" else [sys.executable, "-m", "pytest", "--collect-only"]
        done = subprocess.run([*start, *rest], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    else:
        raise AssertionError(
            f"'{' '.join(words)}': tests/doc_pages.py can't run '{program}'; teach it, or write it out"
        )


def run_ladic(words: list[str], ladic: Callable[[list[str]], int]) -> None:
    """A subcommand, made small."""
    extra: str | None = SMALLER.get(words[0], "")
    if extra is None:
        ladic([words[0], "--help"])
        return
    cut = words.index("--") if "--" in words else len(words)
    full = [*words[:cut], *extra.split(), *words[cut:]]
    full = [random_weights(full) if word == "--model.image_encoder.pretrained=true" else word for word in full]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "Popen", partial(Here, ladic))
        code = ladic(full)
    assert code == 0, f"`ladic {' '.join(full)}` ended with {code}"


def random_weights(words: list[str]) -> str:
    """The flag for a file of them, for an encoder's published ones: nothing is downloaded, and they are its own too."""
    (name,) = (word.partition("=")[2] for word in words if word.startswith("--model.image_encoder.model_name="))
    file = Path(f"{name}.safetensors")
    if not file.is_file():
        save_file(timm.create_model(name, num_classes=0).state_dict(), file)
    return f"--model.image_encoder.checkpoint_path={file}"


class Here:
    """What a sweep starts, run in this process: six times starting Python takes a minute longer than the trainings.

    Processes of their own are what tests/test_sweep.py and test_sweep_running.py have.
    """

    def __init__(self, ladic: Callable[[list[str]], int], words: list[str], stdout: BinaryIO, **_: object) -> None:
        with TextIOWrapper(stdout, write_through=True) as log, redirect_stdout(log), redirect_stderr(log):
            self.code = ladic(words[len(running.LADIC) :])

    def wait(self, timeout: float) -> int:
        return self.code

    def poll(self) -> int:
        return self.code


def check_pip(words: list[str]) -> None:
    """What a page installs exists: extras of ours, folders with a project in them."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for word in words[1:]:
        name, _, inner = word.partition("[")
        if name in (".", "ladic"):
            unknown = set(inner.rstrip("]").split(",")) - {"", *extras}
            assert not unknown, f"no extra called {unknown}"
        elif not word.startswith("-"):
            assert (ROOT / word / "pyproject.toml").is_file(), f"pip install {word}: no project there"


def run_python(snippet: Snippet, names: dict[str, Any]) -> None:
    """Runs a Python block; ``names`` is shared by the blocks of a page."""
    code = compile("\n" * snippet.line + snippet.body, snippet.page, "exec")
    exec(code, names)
