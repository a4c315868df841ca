"""Flickr8k and Flickr30k, from any of the files they are published in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

from ladic.datamodules.coco import resplit
from ladic.datamodules.files import FilesDataModule
from ladic.datamodules.readers.blip import read_blip
from ladic.datamodules.readers.files import SPLITS
from ladic.datamodules.readers.karpathy import read_karpathy
from ladic.datamodules.readers.split_list import has_lists
from ladic.datamodules.readers.token_file import read_token_file
from ladic.datamodules.records import Record
from ladic.errors import UsageError

EXPECTED = "dataset_flickr8k.json or dataset_flickr30k.json, Flickr8k.token.txt, or the folder of flickr30k_*.json"


class FlickrDataModule(FilesDataModule):
    """Flickr8k (6,000 / 1,000 / 1,000 pictures) and Flickr30k (29,000 / 1,014 / 1,000), five captions each.

    ``annotations`` is one of

    - ``dataset_flickr8k.json`` or ``dataset_flickr30k.json`` of Karpathy;
    - the folder of BLIP's ``flickr30k_train.json``, ``…_val.json``, ``…_test.json``;
    - the original ``Flickr8k.token.txt`` or ``results_20130124.token``, with the lists of the splits in ``splits`` (or
      beside it, as Flickr8k's archive has them).

    Pictures lie flat in ``images`` or in the folder that the archive has. A picture is known by its file's name.

    Args:
        annotations: the file or folder of captions.
        images: the folder of pictures.
        splits: which picture is of which split, whatever the annotations say: the folder of lists like
            ``Flickr_8k.trainImages.txt``, {"train": [names], …}, or Karpathy's file.
        options: those of ``FilesDataModule`` and ``CaptionDataModule``.

    Raises:
        UsageError: if no file is of a known layout, or a split is empty or has a picture without captions.
    """

    subfolders: ClassVar = ("Flicker8k_Dataset", "Flickr8k_Dataset", "flickr30k-images", "flickr30k_images")
    published: ClassVar = {
        "Flickr8k": {"train": 6000, "val": 1000, "test": 1000},
        "Flickr30k": {"train": 29000, "val": 1014, "test": 1000},
    }

    def __init__(self, annotations: str, images: str, splits: str | None = None, **options: Any) -> None:
        super().__init__(annotations, images, **options)
        self.splits = None if splits is None else Path(splits)

    def read(self) -> list[Record]:
        path, splits = self.annotations, self.splits
        if path.is_dir():
            files = {file: re.fullmatch(rf"flickr\w*_({'|'.join(SPLITS)})\.json", file.name) for file in path.iterdir()}
            found = {file: SPLITS[match[1]] for file, match in sorted(files.items()) if match}
            if not found:
                raise UsageError(f"data.annotations='{path}': none of the known files is in it; give {EXPECTED}")
            records = [record for file, split in found.items() for record in read_blip(file, split, numbered=False)]
        elif path.suffix == ".json":
            records = read_karpathy(path)
        else:
            if splits is None and not has_lists(path.parent):
                raise UsageError(
                    f"data.annotations='{path}': it names no splits; give --data.splits=FOLDER with trainImages.txt, "
                    "devImages.txt and testImages.txt, or Karpathy's file"
                )
            records, splits = read_token_file(path), splits or path.parent
        return records if splits is None else resplit(records, splits, numbered=False)
