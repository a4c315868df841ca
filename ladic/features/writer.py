"""Writing a cache of image tokens: file by file, resumable, on any number of processes."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ladic.errors import UsageError
from ladic.features.codec import STORED, decode, encode, first_not_whole
from ladic.json_files import write_json

FORMAT = 2
SPLITS = ("train", "val", "test")
MEGABYTES = 64
"""Size of a file by default: what a killed run has to compute again at most."""

OWN = re.compile(
    r"(?:(?P<split>train|val|test)(?:\.json|-\d{5,}(?:\.npy|\.scales\.npy|\.broken\.json))|manifest\.json)"
    r"(?:(?:\.[0-9a-f]{8})?\.part)?"
)
"""Names of all files of a cache, and of what a killed run leaves of them; others are never removed."""

SAMPLE = 32
"""Pictures that are encoded again when a split is whole, to measure the error of what was stored."""


def begin_cache(folder: Path, manifest: dict[str, Any], overwrite: bool = False) -> dict[str, Any]:
    """Writes the manifest, or finds it there from an earlier run.

    Args:
        folder: of the cache.
        manifest: what makes it; ``num_tokens``, ``width``, ``views`` and ``format`` of numbers among it.
        overwrite: remove a cache that something else made; files that are of none stay.

    Raises:
        UsageError: if something else made what is there, naming what differs, or if it is no cache.
    """
    manifest = {"version": FORMAT, **manifest}
    found = read_manifest(folder)
    if found is None:  # then an index is none of ours
        strange = [f"{split}.json" for split in SPLITS if (folder / f"{split}.json").exists()]
    else:
        strange = [] if type(found.get("version")) is int else ["manifest.json"]
    if strange:
        raise UsageError(
            f"--output {folder}: its {strange[0]} is not of a cache that this version can replace; give another "
            "folder, or move that file away"
        )
    if found is not None and found != manifest:
        if not overwrite:
            raise UsageError(
                f"--output {folder}: it holds a cache with {differing(found, manifest)}; give another folder, or "
                "--overwrite to remove that one"
            )
        for file in own_files(folder):
            file.unlink()
        found = None
    if found is None:
        write_json(folder / "manifest.json", manifest)
    return manifest


def own_files(folder: Path, split: str | None = None) -> list[Path]:
    """The files of a cache that are in a folder, or of one split of it; the manifest last."""
    files = [] if not folder.is_dir() else sorted(file for file in folder.iterdir() if file.is_file())
    named = [(file, OWN.fullmatch(file.name)) for file in files]
    own = [file for file, name in named if name is not None and split in (None, name["split"])]
    return sorted(own, key=lambda file: file.name == "manifest.json")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder; None where there is none.

    Raises:
        UsageError: if it can't be read.
    """
    file = folder / "manifest.json"
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"'{file}': not JSON ({error}); remove the folder and make the cache again") from error
    needed = {"format", "views", "augment", "num_tokens", "width"} if _version(content) == FORMAT else set()
    if not isinstance(content, dict) or needed - content.keys():
        raise UsageError(f"'{file}': not the manifest of a cache; give a folder of `ladic cache-features`")
    return content


def read_index(folder: Path, split: str) -> dict[str, Any] | None:
    """The index of a split; None where there is none.

    Raises:
        UsageError: if it can't be read.
    """
    file = folder / f"{split}.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        damaged = "" if {"images", "rows_per_file", "complete", "image_id"} <= content.keys() else "entries are missing"
    except FileNotFoundError:
        return None
    except (ValueError, AttributeError) as error:
        damaged = str(error)
    if damaged:
        raise UsageError(
            f"'{file}': not the index of a cache ({damaged}); remove it and run `ladic cache-features` again"
        )
    return content


def _version(manifest: Any) -> Any:
    return manifest.get("version") if isinstance(manifest, dict) else None


def differing(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The first entry in which a manifest differs from the one wanted, in words."""
    if found.get("version") != wanted.get("version", FORMAT):
        return f"the layout of an earlier version ({found.get('version', 1)}, now {FORMAT})"
    key = next(key for key in wanted if found.get(key) != wanted[key])
    return f"{key} {' instead of '.join(apart(found.get(key), wanted[key]))}"


class FeatureWriter:
    """One split of a cache.

    Args:
        folder: of the cache.
        split: "train", "val" or "test".
        image_ids: of all its pictures, in order.
        manifest: from ``begin_cache``.
        megabytes: size of a file.
        overwrite: remove the split's files, whatever is in them.

    Raises:
        UsageError: if files of other pictures are there.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        image_ids: list[int | str],
        manifest: dict[str, Any],
        megabytes: float = MEGABYTES,
        overwrite: bool = False,
    ) -> None:
        self.folder, self.split, self.image_ids, self.manifest = folder, split, image_ids, manifest
        self.index = folder / f"{split}.json"
        shape = (manifest["views"], manifest["num_tokens"], manifest["width"])
        bytes_each = int(np.prod(shape)) * STORED[manifest["format"]].itemsize
        rows = max(1, min(len(image_ids), int(megabytes * 2**20) // bytes_each))
        if overwrite:  # the index last: as long as it is there, files of other pictures are refused
            for file in sorted(own_files(folder, split), key=lambda file: file == self.index):
                file.unlink(missing_ok=True)
        stored = read_index(folder, split)
        if stored is not None and stored["images"] != images_hash(image_ids):
            raise UsageError(
                f"--output {folder}: its {split} has other pictures ({len(stored['image_id'])}, now "
                f"{len(image_ids)}); give another folder, or --overwrite to remove that split"
            )
        # The size of files is that of the run that began: bytes then don't hang on how often it was interrupted.
        self.rows: int = rows if stored is None else stored["rows_per_file"]
        # A part that is left was not merged: its run was killed after it had made a lost file again.
        self.complete: bool = stored is not None and stored["complete"] and not self._parts()
        if stored is None:
            self._record(complete=False)

    @property
    def num_files(self) -> int:
        return -(-len(self.image_ids) // self.rows)

    def missing(self) -> list[int]:
        """Numbers of the files that are not there yet, or not whole."""
        return [
            number
            for number in range(self.num_files)
            if first_not_whole(self._file(number, ""), len(self.range(number)), self.manifest)
        ]

    def range(self, number: int) -> range:
        """Rows of a file."""
        return range(number * self.rows, min((number + 1) * self.rows, len(self.image_ids)))

    def write(self, number: int, tokens: Tensor, broken: dict[int, str] | None = None) -> None:
        """Writes a file.

        Args:
            number: of the file.
            tokens: (rows, views, N, C) of its pictures.
            broken: row -> what is wrong with the picture; its tokens are never read.
        """
        assert len(tokens) == len(self.range(number))
        stored, scales = encode(tokens, self.manifest["format"])
        part = self._file(number, ".broken.json")
        if broken:
            write_json(part, sorted(broken.items()))
        else:
            part.unlink(missing_ok=True)  # of a run that was killed here; since then the pictures were mended
        if scales is not None:
            _save(self._file(number, ".scales.npy"), scales)
        _save(self._file(number), stored)  # last: its being there says that the others are

    def finish(self, encode_row: Callable[[int], Tensor] | None = None) -> bool:
        """Completes the split if all files are there; False if another process still has some to write.

        Args:
            encode_row: ``encode_row(row) -> (N, C)`` encodes a picture again, for the measured error.
        """
        if self.missing():
            return False
        parts = self._parts()
        # Only now: who completes a split removes its parts after that, so what is not among them is in the index.
        stored = read_index(self.folder, self.split)
        self.complete = stored is not None and stored["complete"]
        broken: dict[int, str] = {}
        try:
            for part in parts:
                broken |= dict(json.loads(part.read_text(encoding="utf-8")))
        except FileNotFoundError:  # another process was as fast, and has completed the split
            return True
        if stored is None or not self.complete:
            error = None if encode_row is None else self._error(encode_row, broken)
            self._record(complete=True, broken=sorted(broken.items()), error=error)
            self.complete = True
        elif broken:  # of a file that was lost and made again
            broken |= dict(stored["broken"])
            self._record(complete=True, broken=sorted(broken.items()), error=stored["relative_error"])
        for part in parts:
            part.unlink(missing_ok=True)
        return True

    def _error(self, encode_row: Callable[[int], Tensor], broken: dict[int, str]) -> dict[str, float]:
        """Relative error of stored tokens on a sample of pictures that is the same in every run."""
        whole = [row for row in range(len(self.image_ids)) if row not in broken]
        step = max(1, len(whole) // SAMPLE)
        errors = []
        for row in whole[::step][:SAMPLE]:
            number, place = divmod(row, self.rows)
            stored = np.load(self._file(number), mmap_mode="r")[place, 0]
            scales = self._file(number, ".scales.npy")
            factors = np.load(scales, mmap_mode="r")[place, 0] if self.manifest["format"] == "int8" else None
            errors.append(relative_error(decode(stored, factors, self.manifest["format"]), encode_row(row)))
        return {"pictures": len(errors), "mean": float(np.mean(errors)), "largest": float(np.max(errors))}

    def _parts(self) -> list[Path]:
        """Lists of broken pictures of single files, as long as they are not in the index."""
        found = self.folder.glob(f"{self.split}-*.broken.json")
        return sorted(file for file in found if OWN.fullmatch(file.name))

    def _file(self, number: int, ending: str = ".npy") -> Path:
        return self.folder / f"{self.split}-{number:05d}{ending}"

    def _record(self, complete: bool, broken: Sequence[Any] = (), error: dict[str, float] | None = None) -> None:
        content = {"images": images_hash(self.image_ids), "rows_per_file": self.rows, "complete": complete}
        if complete:
            content |= {"broken": list(broken), "relative_error": error}
        write_json(self.index, {**content, "image_id": self.image_ids})


def relative_error(stored: Tensor, tokens: Tensor) -> float:
    """Norm of the difference over the norm of the tokens."""
    tokens = tokens.detach().float().cpu()
    norm = tokens.norm().clamp_min(torch.finfo(torch.float32).tiny)
    return float((stored.float() - tokens).norm() / norm)


def images_hash(image_ids: list[int | str]) -> str:
    """Hash of a list of image ids."""
    return hashlib.sha256(json.dumps(image_ids, ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()


def apart(one: object, other: object) -> tuple[str, str]:
    """Two values for a complaint, cut to where they differ.

    Example:
        >>> apart("Preprocess(size=224, mean=0.5, std=0.5, resize=crop)", "Preprocess(size=224, mean=0.4, std=0.5)")
        ('…224, mean=0.5, std=0.5, resize=crop)', '…224, mean=0.4, std=0.5)')
    """
    first, second = str(one), str(other)
    pairs = enumerate(zip(first, second, strict=False))
    same = next((place for place, (a, b) in pairs if a != b), min(len(first), len(second)))
    start = max(0, same - 12) if max(len(first), len(second)) > 40 else 0
    texts = ["…" * (start > 0) + text[start:] for text in (first, second)]
    return tuple(text if len(text) < 60 else text[:57] + "…" for text in texts)  # type: ignore[return-value]


def _save(path: Path, array: np.ndarray) -> None:
    """Writes an array whole or not at all; it is on the disk before it gets its name."""
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as opened:
        np.save(opened, array)
        opened.flush()
        os.fsync(opened.fileno())
    os.replace(temporary, path)
