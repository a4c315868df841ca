"""Files of captions and of references, in the layouts that captioning systems write them; free of torch.

================  =======================================================================================
layout            what it looks like
================  =======================================================================================
COCO results      ``[{"image_id": 42, "caption": "..."}]``, also one JSON object a line
COCO annotations  ``{"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}``
Karpathy          ``{"images": [{"filename", "split", "cocoid", "sentences": [{"raw"}]}]}``
BLIP, ALBEF       ``[{"image": "val2014/COCO_val2014_000000000042.jpg", "caption": ["...", "..."]}]``
paragraphs        ``[{"image_id": 42, "paragraph": "..."}]``, or COCO annotations
plain             ``{"42": "..."}`` or ``{"42": ["...", "..."]}``
================  =======================================================================================

Systems name images differently: by number, by file, by file without ending. References are therefore kept under each
name they have, and ``References.named_like`` picks the way of naming that the captions use.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ladic.errors import UsageError
from ladic.json_files import parse_json, read_text
from ladic.metrics.scoring import ImageId

_ID_KEYS = ("image_id", "cocoid", "id", "img_id")
_FILE_KEYS = ("file_name", "filename", "image", "img_path")
_TEXT_KEYS = ("caption", "paragraph", "captions", "references")
LAYOUTS = "COCO, Karpathy, BLIP/ALBEF, paragraph or plain {id: caption} JSON"


@dataclass
class Entry:
    """One image of a file: its texts, its name of each kind, and the split it belongs to, if the file has splits."""

    texts: list[str]
    names: dict[str, ImageId]
    split: str | None = None


@dataclass
class References:
    """The references of a file; see ``named_like``."""

    entries: list[Entry] = field(default_factory=list)

    def named_like(self, ids: Iterable[ImageId]) -> dict[ImageId, list[str]]:
        """Image id -> references, with images named as ``ids`` name them.

        Of a file with splits, only the splits that ``ids`` come from are returned: results on the test split are not
        incomplete because the training images have no caption.
        """
        wanted = set(ids)
        best: dict[ImageId, Entry] = {}
        hits = -1
        for kind in dict.fromkeys(kind for entry in self.entries for kind in entry.names):
            named = {entry.names[kind]: entry for entry in self.entries if kind in entry.names}
            found = len(wanted & named.keys())
            unique = len(named) == sum(kind in entry.names for entry in self.entries)
            if unique and found > hits:
                best, hits = named, found
        splits = {entry.split for name, entry in best.items() if name in wanted}
        return {name: entry.texts for name, entry in best.items() if not splits or entry.split in splits}


def read_captions(path: str | Path) -> dict[ImageId, str]:
    """Image id -> caption of a results file.

    Raises:
        UsageError: when the file isn't there, is empty or of no known layout, when an image has no caption or several,
            or when it comes twice with different captions.

    Example:
        >>> import tempfile; path = tempfile.mkdtemp() + "/results.json"
        >>> _ = Path(path).write_text('[{"image_id": 42, "caption": "a dog"}]')
        >>> read_captions(path)
        {42: 'a dog'}
    """
    captions: dict[ImageId, str] = {}
    several: list[ImageId] = []
    different: list[ImageId] = []
    for entry in _entries(_load(path), path):
        name = next(iter(entry.names.values()))
        if len(entry.texts) != 1:
            several.append(name)
        elif captions.setdefault(name, entry.texts[0]) != entry.texts[0]:
            different.append(name)
    if different:
        raise UsageError(
            f"{path}: {len(different)} captions are for an image that has another caption already: image id "
            f"{', '.join(map(str, different[:5]))}"
        )
    if several:
        raise UsageError(
            f"{path}: {len(several)} images don't have one caption: image id {', '.join(map(str, several[:5]))}; "
            "is this a file of references?"
        )
    return captions


def read_references(path: str | Path, split: str | None = None) -> References:
    """The references of a file.

    Args:
        path: the file.
        split: keep this split alone ("restval" counts as "train"), in a file that has splits.

    Raises:
        UsageError: when the file isn't there, is empty or of no known layout, or has no such split.
    """
    merged: dict[ImageId, Entry] = {}
    for entry in _entries(_load(path), path):
        name = next(iter(entry.names.values()))
        if name in merged:
            merged[name].texts += entry.texts
        else:
            merged[name] = entry
    entries = list(merged.values())
    if split is not None:
        known = sorted({entry.split for entry in entries if entry.split})
        if split not in known:
            kinds = f"its splits are {', '.join(known)}" if known else "this file has no splits"
            raise UsageError(f"--split {split}: {path} has no such split; {kinds}")
        entries = [entry for entry in entries if entry.split == split]
    return References(entries)


def read_ids(path: str | Path) -> set[ImageId]:
    """The image ids of a split file, a JSON list or one id a line."""
    text = _text(path)
    try:
        listed = parse_json(text)
    except ValueError:
        listed = None
    if isinstance(listed, str):
        listed = [listed]
    elif not isinstance(listed, list | dict):  # a single number is JSON, too
        listed = [line.strip() for line in text.split("\n") if line.strip()]
    if not isinstance(listed, list) or not all(isinstance(i, int | str) for i in listed):
        raise UsageError(f"{path}: a list of image ids was expected, as JSON or one a line")
    return {plain(i) for i in listed}


def plain(name: Any) -> ImageId:
    """An image id in one form: digits are a number.

    Example:
        >>> plain("000042"), plain(42), plain("42.jpg")
        (42, 42, '42.jpg')
    """
    return int(name) if isinstance(name, str) and name.isascii() and name.isdigit() else name


def _text(path: str | Path, cut_off: bool = False) -> str:
    """The text of a file; with ``cut_off`` also of one that ends within a character, up to that."""
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        if not cut_off or not isinstance(error, UnicodeDecodeError) or error.reason != "unexpected end of data":
            raise UsageError(f"{path}: can't be read: {error}") from error
        text = error.object[: error.start].decode()
    if not text.strip():
        raise UsageError(f"{path}: the file is empty")
    return text


def _load(path: str | Path) -> Any:
    text = _text(path, cut_off=True)
    try:
        return parse_json(text)
    except ValueError as error:
        first = error
    rows: list[Any] = []
    lines = [line for line in text.split("\n") if line.strip()]  # splitlines() would cut within texts, too
    for number, line in enumerate(lines, 1):
        try:
            rows.append(parse_json(line))
        except ValueError:
            if not rows or number < len(lines) or text.endswith("\n"):
                raise UsageError(f"{path}: not JSON: {first}") from None
            print(f"note: {path}: its last line is cut off and left out", file=sys.stderr)
    return rows


def _entries(data: Any, path: str | Path) -> list[Entry]:
    entries = list(_parse(data))
    if not entries:
        raise UsageError(f"{path}: no image with a caption in it; accepted are {LAYOUTS}")
    for place, entry in enumerate(entries):
        if not entry.names or not all(isinstance(text, str) for text in entry.texts):
            raise UsageError(
                f"{path}: row {place} (from 0) has no image id or no text; accepted are {LAYOUTS}: "
                f'[{{"image_id": 42, "caption": "..."}}]'
            )
    return entries


def _parse(data: Any) -> Iterable[Entry]:
    if isinstance(data, dict) and isinstance(data.get("annotations"), list):
        images = data.get("images")
        table = {_known(row, "id"): row for row in images if isinstance(row, dict)} if isinstance(images, list) else {}
        for row in data["annotations"]:
            yield _row({**table.get(_known(row, "image_id"), {}), **row, "id": None} if isinstance(row, dict) else row)
    elif isinstance(data, dict) and isinstance(data.get("images"), list):
        for row in data["images"]:
            sentences = _get(row, "sentences")
            texts = [_get(s, "raw") for s in sentences] if isinstance(sentences, list) else _get(row, "caption")
            yield _row({**row, "caption": texts} if isinstance(row, dict) else row)
    elif isinstance(data, dict) and _row(data).names and any(key in data for key in _TEXT_KEYS):
        yield _row(data)  # a single line
    elif isinstance(data, dict):
        for name, texts in data.items():
            yield Entry(_texts(texts), {"image_id": plain(name)})
    elif isinstance(data, list):
        for row in data:
            yield _row(row)


def _row(row: Any) -> Entry:
    if not isinstance(row, dict):
        return Entry([None], {})  # type: ignore[list-item]  # told by _entries
    names: dict[str, ImageId] = {}
    number = next((row[key] for key in _ID_KEYS if isinstance(row.get(key), int | str)), None)
    file = next((row[key] for key in _FILE_KEYS if isinstance(row.get(key), int | str)), None)
    if isinstance(file, int):
        number, file = file if number is None else number, None
    if number is not None:
        names["image_id"] = plain(number)
    if isinstance(file, str):
        stem = Path(file).stem
        names |= {"path": file, "file": Path(file).name, "stem": plain(stem)}
        digits = re.search(r"\d+$", stem)
        if digits:
            names["number"] = int(digits[0])
    if isinstance(row.get("imgid"), int):
        names["imgid"] = row["imgid"]
    text = next((row[key] for key in _TEXT_KEYS if key in row), None)
    split = row.get("split")
    return Entry(_texts(text), names, "train" if split == "restval" else split)


def _texts(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def _known(row: Any, key: str) -> int | str | None:
    """An image id, None where it is none, or no number or text."""
    value = _get(row, key)
    return value if isinstance(value, int | str) else None


def _get(row: Any, key: str) -> Any:
    return row.get(key) if isinstance(row, dict) else None
