"""Stanford's image paragraphs (Krause et al. 2017): ``paragraphs_v1.json``.

[{"image_id": 2356347, "paragraph": "...", "url": "https://…/VG_100K/2356347.jpg"}]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from ladic.datamodules.readers.files import fields, image_id, load_json, picture_file, texts
from ladic.datamodules.records import Record
from ladic.errors import UsageError

Duplicates = Literal["first", "all"]


def read_paragraphs(path: Path, duplicates: Duplicates = "first", content: Any = None) -> tuple[list[Record], int]:
    """The pictures of the file in its order, and how many further paragraphs were of a picture that had one.

    Args:
        path: the file.
        duplicates: "first" keeps the first paragraph of a picture, "all" keeps them all.
        content: its value, where it was read before.

    Raises:
        UsageError: naming the file and what is wrong in it.
    """
    where = f"data.annotations='{path}'"
    if content is None:
        content = load_json(path, "data.annotations", "Stanford's paragraphs_v1.json")
    if not isinstance(content, list) or not content:
        raise UsageError(f"{where}: not Stanford's JSON: it is no list of entries with 'image_id' and 'paragraph'")
    files: dict[int | str, str] = {}
    paragraphs: dict[int | str, list[str]] = {}
    for number, entry in enumerate(content):
        place = f"{where}: entry {number}"
        entry = fields(entry, ("image_id", "paragraph"), place)
        name = image_id(entry["image_id"], place)
        files.setdefault(name, picture_file(_file(entry, name), place))
        paragraphs.setdefault(name, []).extend(texts(entry["paragraph"], place))
    further = sum(len(own) - 1 for own in paragraphs.values())
    kept = {name: tuple(own if duplicates == "all" else own[:1]) for name, own in paragraphs.items()}
    return [Record(name, file, kept[name]) for name, file in files.items()], further


def _file(entry: dict[str, Any], name: int | str) -> str:
    """``VG_100K_2/2356347.jpg``, from the picture's address; ``2356347.jpg`` where there is none."""
    parts = urlsplit(entry["url"]).path.split("/") if isinstance(entry.get("url"), str) else []
    return "/".join(parts[-2:]) if len(parts) > 2 and parts[-1] else f"{name}.jpg"
