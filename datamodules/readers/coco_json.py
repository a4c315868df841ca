"""COCO's own captions (Chen et al. 2015): ``captions_train2014.json``, and paragraphs in the same layout.

{"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ladic.datamodules.readers.files import fields, image_id, load_json, picture_file, short, texts
from ladic.datamodules.records import Record
from ladic.errors import UsageError


def read_coco(path: Path, split: str | None = None, content: Any = None) -> list[Record]:
    """The pictures of a COCO file in its order, each with all of its captions.

    Args:
        path: the file.
        split: of all its pictures.
        content: its value, where it was read before.

    Raises:
        UsageError: naming the file and what is wrong in it.
    """
    where = f"data.annotations='{path}'"
    if content is None:
        content = load_json(path, "data.annotations", "COCO's captions_*.json")
    lists = [content.get(name) if isinstance(content, dict) else None for name in ("images", "annotations")]
    if not all(isinstance(entries, list) for entries in lists) or not lists[0]:
        raise UsageError(f"{where}: not COCO's JSON: it has no lists 'images' and 'annotations'")
    files: dict[int | str, str] = {}
    for number, entry in enumerate(lists[0]):
        entry = fields(entry, ("id", "file_name"), f"{where}: image {number}")
        name, place = image_id(entry["id"], f"{where}: image {number}"), f"{where}: image {number}"
        if name in files:
            raise UsageError(f"{place}: the image id {name!r} comes twice")
        files[name] = picture_file(_with_folder(entry), place)
    captions = read_captions(lists[1], where)
    strange = [name for name in captions if name not in files]
    if strange:
        raise UsageError(
            f"{where}: {len(strange)} annotations are of images that it doesn't list, the first of {short(strange[0])}"
        )
    return [Record(name, file, tuple(captions.get(name, ())), split) for name, file in files.items()]


def read_captions(entries: Any, where: str) -> dict[int | str, list[str]]:
    """Captions of each image of a list of annotations."""
    captions: dict[int | str, list[str]] = {}
    for number, entry in enumerate(entries):
        entry = fields(entry, ("image_id", "caption"), f"{where}: annotation {number}")
        name = image_id(entry["image_id"], f"{where}: annotation {number}")
        captions.setdefault(name, []).extend(texts(entry["caption"], f"{where}: annotation {number}"))
    return captions


def _with_folder(entry: dict[str, Any]) -> Any:
    """A picture's file with the folder that its address names: files of Visual Genome say only there which it is."""
    file, address = entry["file_name"], entry.get("url") or entry.get("coco_url")
    if not isinstance(file, str) or "/" in file or not isinstance(address, str):
        return file
    parts = urlsplit(address).path.split("/")
    return f"{parts[-2]}/{file}" if len(parts) > 2 and parts[-1] == file and parts[-2] else file
