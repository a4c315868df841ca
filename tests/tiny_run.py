"""A captioner so small that a run through the command line takes half a second; imported by the tests of the CLI."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from ladic.expected_ngrams import ExpectedNgrams
from ladic.rounding import TrigramModel
from ladic.testing import TINY_BERT, tiny_text_space, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
NEWEST_WORDS = pytest.mark.skipif(
    tuple(map(int, version("jsonargparse").split(".")[:2])) < (4, 53),
    reason="complaints of jsonargparse below 4.53 have other words, and are shown as they come, shortened",
)
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
BERT = {**TINY_BERT, "vocab_size": len(json.loads(TOKENIZER)["model"]["vocab"])}


def tiny_config(folder: Path) -> dict[str, Any]:
    """A whole configuration, named as a user would name things; its run goes to ``folder/run``."""
    fitted = folder / "space.safetensors"
    if not fitted.is_file():
        tiny_text_space().save_fit(fitted)
    return {
        "seed_everything": 0,
        "log_to": [],
        "model": {
            "image_encoder": {"class_path": "ConvEncoder", "init_args": {"image_size": 32, "channels": [8, 16]}},
            "latent_space": {
                "class_path": "BertLatentSpace",
                "init_args": {"config": BERT, "tokenizer": TOKENIZER, "layer": 1, "length": 12, "fitted": str(fitted)},
            },
            "denoiser": {
                "class_path": "CrossAttentionDenoiser",
                "init_args": {"hidden_width": 16, "num_layers": 1, "num_heads": 2, "dropout": 0.0},
            },
            "sampler": {"class_path": "DDIMSampler", "init_args": {"num_steps": 2}},
        },
        "data": {
            "class_path": "ShapesDataModule",
            "init_args": {"num_train": 16, "num_eval": 4, "size": 32, "batch_size": 8},
        },
        "trainer": {
            "default_root_dir": str(folder / "run"),
            "accelerator": "cpu",
            "max_steps": 2,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": [
                {"class_path": "ladic.callbacks.CaptionEvaluation", "init_args": {"control": True}},
                {
                    "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
                    "init_args": {"dirpath": str(folder / "run"), "save_last": True},
                },
            ],
        },
    }


def write_config(folder: Path, config: dict[str, Any] | None = None, name: str = "tiny.yaml") -> Path:
    """The tiny configuration, or another, as a file in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(yaml.safe_dump(config or tiny_config(folder), allow_unicode=True), encoding="utf-8")
    return file


def counted(folder: Path, width: int) -> None:
    """What ``fit-words`` and ``fit-ngrams`` would have made, for image tokens of this width."""
    captions = [["a red circle"], ["a blue square"]]
    ExpectedNgrams.fit(torch.randn(2, width), captions, least=1, ridge=1.0).save(folder / "words.safetensors")
    TrigramModel.count(torch.tensor([[1, 7, 8, 2]]), torch.tensor([4])).save(folder / "ngrams.safetensors")


def counts(folder: Path, config: dict[str, Any]) -> dict[str, Path]:
    """Flags that name them, where a configuration has the selector and the rounding that read them."""
    by_words, by_ngrams = (config.get(f"model.{part}") for part in ("selector", "rounding"))
    found = {"model.selector.words": folder / "words.safetensors"} if by_words == "ExpectedCiderSelector" else {}
    return found | ({"model.rounding.ngrams": folder / "ngrams.safetensors"} if by_ngrams == "NgramRounding" else {})


def picture(file: Path, colour: str = "red", size: tuple[int, int] = (40, 30)) -> Path:
    """A picture of one colour with a dark corner, so that turning it shows."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, colour)
    image.paste((0, 0, 0), (0, 0, size[0] // 2, size[1] // 2))
    image.save(file)
    return file


def karpathy_entry(filename: str, split: str, captions: list[str] | None = None, **more: Any) -> dict[str, Any]:
    """An entry as Karpathy published them; five captions if none are given."""
    captions = [f"A picture of number {n} ." for n in range(5)] if captions is None else captions
    sentences = [{"raw": caption, "tokens": caption.split(), "sentid": n} for n, caption in enumerate(captions)]
    return {"filename": filename, "split": split, "sentences": sentences, **more}


def karpathy_tree(folder: Path, train: int = 8, val: int = 2, test: int = 2) -> dict[str, Any]:
    """A flat Flickr tree in ``folder``; returns the ``data`` part of a configuration."""
    entries = []
    for split, count in (("train", train), ("val", val), ("test", test)):
        for number in range(count):
            name = f"{split}_{number}.jpg"
            picture(folder / "images" / name, ("red", "green", "blue")[number % 3])
            entries.append(karpathy_entry(name, split, imgid=len(entries)))
    write_json(folder / "dataset.json", {"images": entries, "dataset": "flickr8k"})
    return karpathy_data(folder)


def karpathy_data(folder: Path, **init_args: Any) -> dict[str, Any]:
    paths = {"annotations": str(folder / "dataset.json"), "images": str(folder / "images")}
    return {"class_path": "KarpathyDataModule", "init_args": {**paths, "batch_size": 4, **init_args}}


def write_json(file: Path, content: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def error_line(stderr: str) -> str:
    """The complaint, which has to be one line, the last, and no traceback."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    assert "Traceback" not in stderr, stderr
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:], stderr
    return lines[-1].removeprefix("error: ")


def sweep_writer(folder):
    """A function that writes a sweep file over a configuration that says little, and returns it."""
    (folder / "small.yaml").write_text("model:\n  num_candidates: 3\n")

    def write(**content):
        file = folder / "study.yaml"
        whole = {"output": str(folder / "out"), "configs": ["small.yaml"], "rows": {"a": None}, **content}
        file.write_text(yaml.safe_dump({key: value for key, value in whole.items() if value != "absent"}))
        return file

    return write
