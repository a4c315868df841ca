"""COCO captions in Karpathy's split, from any of the files it is published in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from ladic.datamodules.files import FilesDataModule
from ladic.datamodules.readers.blip import read_blip
from ladic.datamodules.readers.coco_json import read_coco
from ladic.datamodules.readers.files import load_json, split_of
from ladic.datamodules.readers.karpathy import read_karpathy
from ladic.datamodules.readers.split_list import read_splits
from ladic.datamodules.records import Record
from ladic.errors import UsageError

EXPECTED = "dataset_coco.json, or the folder of coco_karpathy_*.json or of captions_*.json"


class CocoDataModule(FilesDataModule):
    """COCO 2014 in Karpathy's split (Karpathy & Fei-Fei 2015): 113,287 / 5,000 / 5,000 pictures, five captions each.

    ``annotations`` is one of

    - ``dataset_coco.json`` of Karpathy ("restval" belongs to training);
    - the folder of BLIP's ``coco_karpathy_train.json``, ``…_val.json``, ``…_test.json``, where references come from
      ``…_val_gt.json`` and ``…_test_gt.json`` if these are there;
    - the folder of COCO's own ``captions_train2014.json`` and ``captions_val2014.json``; ``splits`` then says which
      picture belongs where. Without it the splits are COCO's own two, and "test" has none.

    Pictures lie in ``images/train2014`` and ``images/val2014``, or flat in ``images``. A picture is known by COCO's
    number, so that captions can be scored by any tool of COCO's.

    Args:
        annotations: the file or folder of captions.
        images: the folder of pictures.
        splits: list of splits for COCO's own files: ``dataset_coco.json``, {"train": [ids], "val": …, "test": …}, or
            a folder of one list for each split.
        options: those of ``FilesDataModule`` and ``CaptionDataModule``.

    Raises:
        UsageError: if no file is of a known layout, or a split is empty or has a picture without captions.
    """

    subfolders: ClassVar = ("train2014", "val2014")
    published: ClassVar = {"COCO in Karpathy's split": {"train": 113287, "val": 5000, "test": 5000}}

    def __init__(self, annotations: str, images: str, splits: str | None = None, **options: Any) -> None:
        super().__init__(annotations, images, **options)
        self.splits = None if splits is None else Path(splits)

    def read(self) -> list[Record]:
        records: list[Record] = []
        for file, split in self._files():
            content = load_json(file, "data.annotations", EXPECTED)
            if isinstance(content, list):
                records += read_blip(file, needed(split, file), numbered=True, content=content)
            elif isinstance(content, dict) and "annotations" in content:
                records += read_coco(file, split if self.splits is not None else needed(split, file), content)
            else:
                records += read_karpathy(file, content)
        return records if self.splits is None else resplit(records, self.splits, numbered=True)

    def _files(self) -> Sequence[tuple[Path, str | None]]:
        """Files to read with the split that their names say."""
        if not self.annotations.is_dir():
            return [(self.annotations, split_of(self.annotations))]
        named = [(file, split_of(file)) for file in sorted(self.annotations.glob("*.json"))]
        for pattern in (r"coco_karpathy_[a-z]+\.json", r"captions_[a-z]+\d*\.json"):
            found = [(file, split) for file, split in named if split and re.fullmatch(pattern, file.name)]
            if found:
                return found
        karpathy = self.annotations / "dataset_coco.json"
        if karpathy.is_file():
            return [(karpathy, None)]
        raise UsageError(f"data.annotations='{self.annotations}': none of the known files is in it; give {EXPECTED}")


def needed(split: str | None, file: Path) -> str:
    """A split that only the file's name can say.

    Raises:
        UsageError: if it doesn't.
    """
    if split is None:
        raise UsageError(
            f"data.annotations='{file}': its name doesn't say which split it is; rename it to …_train.json, …_val.json "
            "or …_test.json, or give --data.splits"
        )
    return split


def resplit(records: list[Record], splits: Path, numbered: bool) -> list[Record]:
    """Pictures with the splits of a list; those that it doesn't name are left out.

    Args:
        records: the pictures.
        splits: the list, or the folder of lists.
        numbered: whether a picture is known by a number, as in COCO and Visual Genome; else by its file's name.

    Raises:
        UsageError: if it names none of them.
    """
    listed = read_splits(splits, numbered)
    kept = [
        Record(record.image_id, record.file, record.captions, listed[record.image_id])
        for record in records
        if record.image_id in listed
    ]
    if not kept:
        raise UsageError(f"data.splits='{splits}': none of its {len(listed)} images is in data.annotations")
    return kept
