"""Which image belongs to which split, in the ways that data sets publish it.

- a folder with one list for each split: ``train_split.json`` (Stanford paragraphs), ``Flickr_8k.trainImages.txt``,
  ``karpathy_train_images.txt``; entries are ids or file names;
- one JSON file ``{"train": [...], "val": [...], "test": [...]}``;
- Karpathy's ``dataset_*.json``, of which only the splits are taken.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ladic.datamodules.readers.files import SPLITS, image_id, load_json, load_text, number_in, short, split_name
from ladic.datamodules.readers.karpathy import read_karpathy
from ladic.errors import UsageError

OPTION = "data.splits"


def read_splits(path: Path, numbered: bool) -> dict[int | str, str]:
    """Split of each image.

    Args:
        path: the folder or file.
        numbered: whether an image's id is the number at the end of its name, as in COCO and Visual Genome.

    Raises:
        UsageError: if nothing of the kind is there, or an image is in two splits.
    """
    if path.is_dir():
        listed = {split: _list(file) for split, file in _lists_in(path).items()}
    else:
        content = load_json(path, OPTION, "a split list, or the folder of one list for each split")
        if isinstance(content, dict) and "images" in content:
            return {record.image_id: str(record.split) for record in read_karpathy(path, content)}
        if not isinstance(content, dict) or not all(isinstance(entries, list) for entries in content.values()):
            raise UsageError(f'{OPTION}=\'{path}\': not {{"train": [...], "val": [...], "test": [...]}}')
        listed = {split_name(name, f"{OPTION}='{path}'"): entries for name, entries in content.items()}
    splits: dict[int | str, str] = {}
    for split, entries in listed.items():
        for entry in entries:
            name = _id(entry, numbered, f"{OPTION}='{path}'")
            if splits.setdefault(name, split) != split:
                raise UsageError(f"{OPTION}='{path}': {short(name)} is in {splits[name]} and in {split}")
    return splits


def has_lists(folder: Path) -> bool:
    """Whether a folder holds lists of images by split."""
    return folder.is_dir() and bool(_candidates(folder))


def _lists_in(folder: Path) -> dict[str, Path]:
    found = _candidates(folder)
    if not found:
        raise UsageError(f"{OPTION}='{folder}': no lists like train_split.json or trainImages.txt are in it")
    for split, files in found.items():
        if len(files) > 1:
            names = " and ".join(file.name for file in files)
            raise UsageError(f"{OPTION}='{folder}': {names} are both lists for {split}; leave one")
    return {split: files[0] for split, files in found.items()}


def _candidates(folder: Path) -> dict[str, list[Path]]:
    """Files whose name says that they list a split: train_split.json, Flickr_8k.devImages.txt and the like."""
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        name = re.fullmatch(rf"(?:.*[._])?({'|'.join(SPLITS)})(?:_split\.json|_?images\.txt|\.txt)", file.name, re.I)
        if name:
            found.setdefault(SPLITS[name[1].lower()], []).append(file)
    return found


def _list(file: Path) -> list[Any]:
    if file.suffix == ".txt":
        lines = load_text(file, OPTION, "a list of images").splitlines()
        return [line.split()[0] for line in lines if line.strip()]
    content = load_json(file, OPTION, "a list of images")
    if not isinstance(content, list):
        raise UsageError(f"{OPTION}='{file}': not a list of images")
    return content


def _id(entry: Any, numbered: bool, where: str) -> int | str:
    name = image_id(entry, where)
    if isinstance(name, int):
        return name
    return number_in(name) if numbered else name.rpartition("/")[2]
