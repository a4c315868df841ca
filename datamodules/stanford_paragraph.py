"""Stanford's image paragraphs: one description of several sentences for each picture of Visual Genome."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from ladic.datamodules.coco import needed, resplit
from ladic.datamodules.files import FilesDataModule
from ladic.datamodules.readers.coco_json import read_coco
from ladic.datamodules.readers.files import load_json, split_of
from ladic.datamodules.readers.paragraphs import Duplicates, read_paragraphs
from ladic.datamodules.readers.split_list import has_lists
from ladic.datamodules.records import Record
from ladic.errors import UsageError

EXPECTED = "paragraphs_v1.json, or the folder of para_captions_*.json"


class StanfordParagraphDataModule(FilesDataModule):
    """Stanford image paragraphs (Krause et al. 2017): 14,575 / 2,487 / 2,489 pictures, one paragraph each.

    ``annotations`` is one of

    - ``paragraphs_v1.json``, with the folder of ``train_split.json``, ``val_split.json`` and ``test_split.json`` in
      ``splits`` (or beside it);
    - a file, or the folder of files, in COCO's layout: ``para_captions_train.json``, ``…_val.json``, ``…_test.json``.

    Pictures lie in ``images/VG_100K`` and ``images/VG_100K_2``, or flat in ``images``. Paragraphs are used whole:
    nothing is cut but at the length of the latent space, in tokens.

    The file has a few pictures twice, with different paragraphs. The first stands by default, as there is one
    reference for each picture in published evaluations; how many others were left out is told.

    Args:
        annotations: the file or folder of paragraphs.
        images: the folder of pictures.
        splits: the folder of the three lists, which hold whatever the annotations' files are called.
        duplicates: what is done about a picture with several paragraphs: "first" keeps the first, "all" keeps them all
            as captions of the same picture.
        cleaning: as in ``FilesDataModule``; by default case and stops are kept.
        options: those of ``FilesDataModule`` and ``CaptionDataModule``.

    Raises:
        UsageError: if no file is of a known layout, or a split is empty or has a picture without a paragraph.
    """

    subfolders: ClassVar = ("VG_100K", "VG_100K_2")
    published: ClassVar = {"the published split": {"train": 14575, "val": 2487, "test": 2489}}

    def __init__(
        self,
        annotations: str,
        images: str,
        splits: str | None = None,
        duplicates: Duplicates = "first",
        cleaning: Any = "none",
        **options: Any,
    ) -> None:
        super().__init__(annotations, images, cleaning=cleaning, **options)
        if duplicates not in ("first", "all"):
            raise UsageError(f"data.duplicates='{duplicates}': accepted are 'first' and 'all'")
        self.splits, self.duplicates = None if splits is None else Path(splits), duplicates

    def read(self) -> list[Record]:
        path, splits = self.annotations, self.splits
        if path.is_dir():
            files = {file: split_of(file) for file in sorted(path.glob("para_captions_*.json"))}
            found = {file: split for file, split in files.items() if split}
            if not found:
                raise UsageError(f"data.annotations='{path}': no such file is in it; give {EXPECTED}")
            records, further = self._single(
                [record for file, split in found.items() for record in read_coco(file, split)]
            )
        elif isinstance(content := load_json(path, "data.annotations", EXPECTED), dict):
            records, further = self._single(read_coco(path, None if splits else needed(split_of(path), path), content))
        else:
            records, further = read_paragraphs(path, self.duplicates, content)
            if splits is None and not has_lists(path.parent):
                raise UsageError(
                    f"data.annotations='{path}': it names no splits; give --data.splits=FOLDER with train_split.json, "
                    "val_split.json and test_split.json"
                )
            splits = splits or path.parent
        if further and self.duplicates == "first":
            warnings.warn(
                f"data.annotations='{path}': {further} paragraphs are of pictures that had one before; the first "
                "stands (--data.duplicates=all keeps them)",
                stacklevel=2,
            )
        return records if splits is None else resplit(records, splits, numbered=True)

    def _single(self, records: list[Record]) -> tuple[list[Record], int]:
        """The pictures as ``duplicates`` wants them, and how many paragraphs were of a picture that had one."""
        further = sum(max(0, len(record.captions) - 1) for record in records)
        most = 1 if self.duplicates == "first" else None
        return [replace(record, captions=record.captions[:most]) for record in records], further
