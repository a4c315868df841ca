"""A cache of frozen image tokens: one memory map a split, and a manifest that says what made it.

DIR/manifest.json        encoder, weights, preprocessing, token shape
DIR/<split>.npy          (images, N, C) float16
DIR/<split>.json         image ids in order, and how many rows are done (a killed run goes on there)
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ladic.errors import UsageError
from ladic.spec import class_path, describe
from ladic.types import ImagePreprocess


def fingerprint(encoder: nn.Module, preprocess: ImagePreprocess) -> dict[str, str]:
    """What determines the tokens of a picture: the encoder, its weights, and how the picture is prepared."""
    digest = hashlib.sha256()
    for name, value in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return {
        "encoder": class_path(type(encoder)),
        "settings": json.dumps(describe(encoder)["init_args"], sort_keys=True, default=str),
        "weights_sha256": digest.hexdigest(),
        "preprocess": str(preprocess),
    }


class FeatureCache:
    """Cached image tokens of one split, read by image id.

    Args:
        folder: written by ``ladic cache-features``.
        split: of the datamodule.

    Raises:
        UsageError: if the cache is missing or incomplete.
    """

    def __init__(self, folder: str | Path, split: str) -> None:
        self.folder, self.split = Path(folder), split
        manifest = self.folder / "manifest.json"
        index = self.folder / f"{split}.json"
        if not manifest.is_file() or not index.is_file():
            absent = manifest if not manifest.is_file() else index
            raise UsageError(
                f"data.features='{folder}': {absent.name} is missing; make the cache with "
                f"`ladic cache-features -c CONFIG --output {folder}`"
            )
        self.manifest: dict[str, Any] = json.loads(manifest.read_text())
        stored = json.loads(index.read_text())
        if stored["done"] != len(stored["image_id"]):
            raise UsageError(
                f"data.features='{folder}': {split} has {stored['done']} of {len(stored['image_id'])} images; run the "
                "same `ladic cache-features` again, it goes on there"
            )
        self.rows = {image_id: row for row, image_id in enumerate(stored["image_id"])}
        self._tokens: np.ndarray | None = None

    def check(self, expected: dict[str, str], image_ids: list[int | str]) -> None:
        """Refuses a cache of another encoder, preprocessing or set of images.

        Raises:
            UsageError: naming what differs.
        """
        for key, value in expected.items():
            if self.manifest.get(key) != value:
                raise UsageError(
                    f"data.features='{self.folder}': made with {key} {_short(self.manifest.get(key))}, the model has "
                    f"{_short(value)}; make it again with `ladic cache-features`"
                )
        missing = [image_id for image_id in image_ids if image_id not in self.rows]
        if missing:
            raise UsageError(
                f"data.features='{self.folder}': {len(missing)} images of {self.split} are not in it, the first is "
                f"{missing[0]!r}; make it again with `ladic cache-features`"
            )

    def tokens(self, image_id: int | str) -> Tensor:
        """(N, C) float16 tokens of a picture."""
        if self._tokens is None:  # opened late, so that every worker process maps the file itself
            self._tokens = np.load(self.folder / f"{self.split}.npy", mmap_mode="r")
        return torch.from_numpy(self._tokens[self.rows[image_id]].copy())


def begin_cache(folder: Path, made_by: dict[str, Any]) -> None:
    """Writes the manifest; tokens that another encoder left in the folder count as not there.

    A half-made cache would otherwise go on with the new encoder, and a whole one pass for its work.
    """
    manifest = folder / "manifest.json"
    if not manifest.is_file() or json.loads(manifest.read_text()) != made_by:
        for tokens in folder.glob("*.npy"):
            tokens.with_suffix(".json").unlink(missing_ok=True)
        write_json(manifest, made_by)


class FeatureWriter:
    """Writes one split, in order, and remembers how far it came."""

    def __init__(self, folder: Path, split: str, image_ids: list[int | str], shape: tuple[int, int]) -> None:
        self.folder, self.index, self.image_ids = folder, folder / f"{split}.json", image_ids
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{split}.npy"
        stored = json.loads(self.index.read_text()) if self.index.is_file() and path.is_file() else None
        resumable = stored is not None and stored["image_id"] == image_ids
        self.done: int = stored["done"] if stored is not None and resumable else 0
        self.map = np.lib.format.open_memmap(
            path,
            mode="r+" if resumable else "w+",
            dtype=None if resumable else np.float16,
            shape=(len(image_ids), *shape),
        )
        if not resumable:
            self._record()

    def write(self, tokens: Tensor) -> None:
        """Appends the tokens (B, N, C) of the next B pictures."""
        rows = tokens.detach().to(torch.float16).cpu().numpy()
        self.map[self.done : self.done + len(rows)] = rows
        self.map.flush()
        self.done += len(rows)
        self._record()

    def _record(self) -> None:
        write_json(self.index, {"image_id": self.image_ids, "done": self.done})


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    text = json.dumps(value, ensure_ascii=False, indent=None) + "\n"
    temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # half a character is \\ud83d in JSON too
    os.replace(temporary, path)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) < 60 else text[:57] + "…"
