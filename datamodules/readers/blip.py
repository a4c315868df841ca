"""BLIP's files (Li et al. 2022): ``coco_karpathy_{train,val,test}.json``, ``flickr30k_{train,val,test}.json``.

train      [{"image": "val2014/COCO_val2014_000000522418.jpg", "caption": "...", "image_id": "coco_522418"}], one
           entry for each caption
val, test  [{"image": "...", "caption": ["...", ...]}], one entry for each picture
*_gt.json  {"annotations": [{"image_id", "caption"}], "images": [{"id"}]}: COCO's references of the same pictures
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ladic.datamodules.readers.coco_json import read_captions
from ladic.datamodules.readers.files import fields, load_json, number_in, picture_file, short, texts
from ladic.datamodules.records import Record
from ladic.errors import UsageError


def read_blip(path: Path, split: str, numbered: bool, content: Any = None) -> list[Record]:
    """The pictures of one of BLIP's files, entries of the same picture joined.

    References from a ``_gt.json`` beside it take the place of its own captions, as in BLIP's evaluation.

    Args:
        path: the file.
        split: that it is of.
        numbered: whether a picture's id is the number at the end of its name, as in COCO; else it is its name.
        content: its value, where it was read before.

    Raises:
        UsageError: naming the file and what is wrong in it.
    """
    where = f"data.annotations='{path}'"
    if content is None:
        content = load_json(path, "data.annotations", "BLIP's coco_karpathy_*.json")
    if not isinstance(content, list) or not content:
        raise UsageError(f"{where}: not BLIP's JSON: it is no list of entries with 'image' and 'caption'")
    captions: dict[str, list[str]] = {}
    for number, entry in enumerate(content):
        place = f"{where}: entry {number}"
        entry = fields(entry, ("image", "caption"), place)
        captions.setdefault(picture_file(entry["image"], place), []).extend(texts(entry["caption"], place))
    names = {file: number_in(file) if numbered else file.rpartition("/")[2] for file in captions}
    truth = path.with_name(f"{path.stem}_gt.json")
    if truth.is_file():
        references = _references(truth)
        absent = [name for name in names.values() if name not in references]
        if absent:
            raise UsageError(
                f"data.annotations='{truth}': {len(absent)} pictures of {path.name} are not in it, the first is "
                f"{short(absent[0])}; get both files from one place, or remove this one"
            )
        captions = {file: references[names[file]] for file in captions}
    return [Record(names[file], file, tuple(own), split) for file, own in captions.items()]


def _references(path: Path) -> dict[int | str, list[str]]:
    where = f"data.annotations='{path}'"
    content = load_json(path, "data.annotations", "BLIP's *_gt.json")
    if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
        raise UsageError(f"{where}: not COCO's JSON: it has no list 'annotations'")
    return read_captions(content["annotations"], where)
