"""What the datamodules over annotation files and folders of pictures share."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar, Literal

from ladic.datamodules.base import CaptionDataModule
from ladic.datamodules.cleaning import CLEANINGS, Cleaning
from ladic.datamodules.records import PictureFolder, Record, RecordSource
from ladic.datamodules.source import CaptionSource
from ladic.errors import UsageError


class FilesDataModule(CaptionDataModule, ABC):
    """Base of datamodules whose pictures and captions are files. A subclass defines ``read``.

    Args:
        annotations: the file or folder of captions.
        images: the folder of pictures.
        test_split: the split that ``test`` and ``predict`` use; "val" where a copy has no test pictures.
        cleaning: what is done to captions that are trained on: "none", "lower", "blip", "ladic" or "karpathy", see
            ``ladic.datamodules.cleaning``. References are not cleaned.
        options: those of ``CaptionDataModule``.
    """

    subfolders: ClassVar[tuple[str, ...]] = ()
    """Folders that the published pictures come in."""

    published: ClassVar[dict[str, dict[str, int]]] = {}
    """Data set -> split -> pictures, as published: what a complete copy has."""

    def __init__(
        self,
        annotations: str,
        images: str,
        test_split: Literal["test", "val"] = "test",
        cleaning: Cleaning = "lower",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if cleaning not in CLEANINGS:
            raise UsageError(f"data.cleaning='{cleaning}': accepted are {', '.join(CLEANINGS)}")
        if test_split not in ("test", "val"):
            raise UsageError(f"data.test_split='{test_split}': accepted are 'test' and 'val'")
        self.annotations, self.images, self.test_split = Path(annotations), Path(images), test_split
        self.cleaning: Cleaning = cleaning
        self._records: list[Record] | None = None

    @abstractmethod
    def read(self) -> list[Record]:
        """Every picture of the annotations, with its split; pictures without one are left out."""

    def records(self) -> list[Record]:
        """``read``, once."""
        if self._records is None:
            self._records = self.read()
            if not self.images.is_dir() and self.features is None:
                raise UsageError(f"data.images='{self.images}': no such folder; give the folder of the pictures")
            if told := self.other_counts():
                warnings.warn(told, stacklevel=2)
        return self._records

    def counts(self) -> dict[str, int]:
        """Pictures of each split."""
        found = Counter(record.split for record in self.records())
        return {split: found[split] for split in ("train", "val", "test") if found[split]}

    def other_counts(self) -> str | None:
        """One line if the splits have other sizes than those of the published data set of the nearest size."""
        counts = Counter(record.split for record in self._records or ())
        if not self.published:
            return None
        name, sizes = min(self.published.items(), key=lambda known: abs(sum(known[1].values()) - counts.total()))
        tested = {split for split in sizes if split != "test" or self.test_split == "test"}
        if all(counts[split] == sizes[split] for split in tested):
            return None
        here, there = (
            ", ".join(f"{split} {sized[split]}" for split in ("train", "val", "test")) for sized in (counts, sizes)
        )
        return f"data.annotations='{self.annotations}': {here} pictures; {name} has {there}"

    def source(self, split: str) -> CaptionSource:
        if split not in ("train", "val", "test"):
            raise UsageError(f"'{split}' is no split; choose one of train, val, test")
        records = self.records()
        wanted = self.test_split if split == "test" else split
        chosen = [record for record in records if record.split == wanted]
        if not chosen:
            found = ", ".join(f"{name} {count}" for name, count in self.counts().items())
            hint = "; --data.test_split=val tests on the validation pictures" if split == "test" else ""
            raise UsageError(f"data.annotations='{self.annotations}': no pictures for {split} (it has {found}){hint}")
        return RecordSource(chosen, PictureFolder(self.images, self.subfolders), self.cleaning, self.annotations)
