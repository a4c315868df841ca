"""Karpathy's JSON (Karpathy & Fei-Fei 2015): ``dataset_coco.json``, ``dataset_flickr8k.json``, ``…30k.json``.

{"images": [{"filename", "split", "sentences": [{"raw"}], "filepath" and "cocoid" in COCO}]}
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ladic.datamodules.readers.files import image_id, load_json, picture_file, split_name
from ladic.datamodules.records import Record
from ladic.errors import UsageError


def read_karpathy(path: Path, content: Any = None) -> list[Record]:
    """The pictures of a Karpathy file.

    Args:
        path: the file.
        content: its value, where it was read before.

    Raises:
        UsageError: naming the file and what is wrong in it.
    """
    where = f"data.annotations='{path}'"
    if content is None:
        content = load_json(path, "data.annotations", "Karpathy's dataset_*.json")
    entries = content.get("images") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise UsageError(f"{where}: not Karpathy's JSON: it has no list 'images'; give dataset_coco.json or its like")
    return [_record(entry, number, where) for number, entry in enumerate(entries)]


def _record(entry: Any, number: int, where: str) -> Record:
    """One picture of the file; the place of what is wrong is its number or its name."""
    absent = [key for key in ("filename", "split", "sentences") if not isinstance(entry, dict) or key not in entry]
    if absent:
        raise UsageError(f"{where}: not Karpathy's JSON: image {number} has no '{absent[0]}'")
    name, folder, sentences = entry["filename"], entry.get("filepath", ""), entry["sentences"]
    if not all(isinstance(text, str) for text in (name, folder, entry["split"])) or not isinstance(sentences, list):
        raise UsageError(
            f"{where}: not Karpathy's JSON: image {number}: 'filename', 'split' and 'filepath' are text, "
            "'sentences' is a list"
        )
    if not all(isinstance(sentence, dict) and isinstance(sentence.get("raw"), str) for sentence in sentences):
        raise UsageError(f"{where}: not Karpathy's JSON: a sentence of '{name}' has no text 'raw'")
    return Record(
        image_id=image_id(entry["cocoid"], f"{where}: '{name}'") if "cocoid" in entry else name,
        file=picture_file(f"{folder}/{name}" if folder else name, where),
        captions=tuple(sentence["raw"] for sentence in sentences),
        split=split_name(entry["split"], f"{where}: '{name}'"),
    )
