"""Any data set in Karpathy's JSON (Karpathy & Fei-Fei 2015), one's own among them."""

from __future__ import annotations

from typing import ClassVar

from ladic.datamodules.files import FilesDataModule
from ladic.datamodules.readers.karpathy import read_karpathy
from ladic.datamodules.records import Record


class KarpathyDataModule(FilesDataModule):
    """A JSON file ``{"images": [{"filename", "split", "sentences": [{"raw"}]}]}`` and a folder of pictures.

    The layout of one's own captioned pictures. COCO and Flickr have datamodules of their own, which also read other
    files and know how many pictures there should be.

    A picture is looked for under ``images/filepath/filename`` (COCO's ``train2014``, ``val2014``) and then under
    ``images/filename``. "restval" belongs to the training split, as in the literature.

    Raises:
        UsageError: if the file is not Karpathy's JSON, or a split is empty or has a picture without captions.
    """

    subfolders: ClassVar = ("train2014", "val2014")

    def read(self) -> list[Record]:
        return read_karpathy(self.annotations)
