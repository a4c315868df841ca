"""Pictures and captions as annotation files state them, before any of them is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ladic.datamodules.cleaning import Cleaning, clean, clean_reference
from ladic.datamodules.images import open_image
from ladic.datamodules.source import CaptionSource
from ladic.errors import UsageError


@dataclass(frozen=True, slots=True)
class Record:
    """A picture of an annotation file.

    Attributes:
        image_id: as the data set numbers or names it.
        file: where the annotation says that the picture lies, relative to a folder of pictures.
        captions: as they stand in the file.
        split: "train", "val" or "test"; None where the file doesn't say.
    """

    image_id: int | str
    file: str
    captions: tuple[str, ...]
    split: str | None = None


class PictureFolder:
    """A folder of pictures in any of a data set's published shapes.

    A picture is looked for where its annotation says, then in each of the data set's subfolders, then in the folder
    itself.

    Args:
        root: the folder.
        subfolders: those that the data set comes in, e.g. ("train2014", "val2014").
    """

    def __init__(self, root: str | Path, subfolders: Sequence[str] = ()) -> None:
        self.root, self.subfolders = Path(root), tuple(subfolders)

    def find(self, file: str) -> Path:
        """Path of a picture; of the first place where it should be, if it is in none."""
        name = file.rpartition("/")[2]
        places = [self.root / file, *(self.root / sub / name for sub in self.subfolders), self.root / name]
        return next((place for place in places if place.is_file()), places[0])


class RecordSource(CaptionSource):
    """One split of an annotation file.

    Args:
        records: its pictures.
        folder: where they lie.
        cleaning: what is done to captions that are trained on.
        origin: the file, for complaints.

    Raises:
        UsageError: if a picture has no caption, or an image id comes twice.
    """

    def __init__(self, records: list[Record], folder: PictureFolder, cleaning: Cleaning, origin: Path) -> None:
        self.records, self.folder = records, folder
        self._captions: list[tuple[str, ...]] = []
        seen: set[int | str] = set()
        for record in records:
            captions = tuple(filter(None, (clean(caption, cleaning) for caption in record.captions)))
            where = f"data.annotations='{origin}': '{record.file}' ({record.split})"
            if not captions:
                raise UsageError(f"{where} has no caption; remove the entry or add one")
            if record.image_id in seen:
                raise UsageError(f"{where}: the image id {record.image_id!r} comes twice; remove one of the entries")
            seen.add(record.image_id)
            self._captions.append(captions)

    def __len__(self) -> int:
        return len(self.records)

    def image_id(self, index: int) -> int | str:
        return self.records[index].image_id

    def captions(self, index: int) -> list[str]:
        return list(self._captions[index])

    def references(self, index: int) -> list[str]:
        return list(filter(None, map(clean_reference, self.records[index].captions)))

    def image(self, index: int) -> Image.Image:
        return open_image(self.path(index))

    def path(self, index: int) -> Path:
        """Where the picture lies."""
        return self.folder.find(self.records[index].file)
