"""COCO, Flickr8k and Flickr30k in Karpathy's JSON (Karpathy & Fei-Fei 2015), as published."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from ladic.datamodules.base import CaptionDataModule
from ladic.datamodules.images import open_image
from ladic.datamodules.source import CaptionSource
from ladic.errors import UsageError
from ladic.json_files import parse_json, read_text


class KarpathyDataModule(CaptionDataModule):
    """``dataset_coco.json``, ``dataset_flickr8k.json`` or ``dataset_flickr30k.json`` and a folder of pictures.

    A picture is looked for under ``images/filepath/filename`` (COCO's ``train2014``, ``val2014``) and then under
    ``images/filename``. COCO's "restval" belongs to the training split, as in the literature.

    Args:
        annotations: the JSON file.
        images: the folder of pictures.
        test_split: the split that ``test`` and ``predict`` use; "val" where a copy has no test pictures.
        batch_size: as in ``CaptionDataModule``.
        eval_batch_size: as in ``CaptionDataModule``.
        num_workers: as in ``CaptionDataModule``.
        unit: as in ``CaptionDataModule``.
        features: as in ``CaptionDataModule``.
        limit_train: as in ``CaptionDataModule``.
        limit_eval: as in ``CaptionDataModule``.

    Raises:
        UsageError: if the file is not Karpathy's JSON, or a split is empty or has a picture without captions.
    """

    def __init__(
        self,
        annotations: str,
        images: str,
        test_split: Literal["test", "val"] = "test",
        batch_size: int = 64,
        eval_batch_size: int = 64,
        num_workers: int = 0,
        unit: Literal["caption", "image"] = "caption",
        features: str | None = None,
        limit_train: int | None = None,
        limit_eval: int | None = None,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, num_workers, unit, features, limit_train, limit_eval)
        self.annotations, self.images, self.test_split = Path(annotations), Path(images), test_split
        self._entries: list[dict[str, Any]] | None = None

    def source(self, split: str) -> CaptionSource:
        if self._entries is None:
            self._entries = read_karpathy(self.annotations)
            if not self.images.is_dir():
                raise UsageError(f"data.images='{self.images}': no such folder; give the folder of the pictures")
        wanted = {"train", "restval"} if split == "train" else {self.test_split if split == "test" else split}
        entries = [entry for entry in self._entries if entry["split"] in wanted]
        if not entries:
            found = ", ".join(f"{name} {count}" for name, count in Counter(e["split"] for e in self._entries).items())
            hint = "; --data.test_split=val tests on the validation pictures" if split == "test" else ""
            raise UsageError(f"data.annotations='{self.annotations}': no pictures for {split} (it has {found}){hint}")
        return KarpathySource(entries, self.images, self.annotations)


class KarpathySource(CaptionSource):
    """One split of a Karpathy file."""

    def __init__(self, entries: list[dict[str, Any]], images: Path, origin: Path) -> None:
        self.entries, self.images = entries, images
        for entry in entries:
            if not any(clean_caption(sentence["raw"]) for sentence in entry["sentences"]):
                raise UsageError(
                    f"data.annotations='{origin}': '{entry['filename']}' ({entry['split']}) has no caption; remove the "
                    "entry or add one"
                )

    def __len__(self) -> int:
        return len(self.entries)

    def image_id(self, index: int) -> int | str:
        entry = self.entries[index]
        return entry.get("cocoid", entry["filename"])

    def captions(self, index: int) -> list[str]:
        """The captions, lower-cased, without the space before a full stop that Flickr8k has; blank ones left out."""
        captions = [clean_caption(sentence["raw"]) for sentence in self.entries[index]["sentences"]]
        return [caption for caption in captions if caption]

    def image(self, index: int) -> Image.Image:
        return open_image(self.path(index))

    def path(self, index: int) -> Path:
        """Where the picture lies."""
        entry = self.entries[index]
        nested = self.images / entry.get("filepath", "") / entry["filename"]
        return nested if nested.is_file() else self.images / entry["filename"]


def clean_caption(raw: str) -> str:
    """Lower case, single spaces, no punctuation at the end.

    Example:
        >>> clean_caption("A black dog  is running .")
        'a black dog is running'
    """
    return " ".join(raw.lower().split()).rstrip(" .")


def read_karpathy(path: Path) -> list[dict[str, Any]]:
    """The entries of a Karpathy file.

    Raises:
        UsageError: naming the file and what is wrong in it.
    """
    where = f"data.annotations='{path}'"
    try:
        content = parse_json(read_text(path))
    except FileNotFoundError as error:
        raise UsageError(f"{where}: no such file; give Karpathy's dataset_*.json") from error
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"{where}: not JSON ({error}); is the download complete?") from error
    entries = content.get("images") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise UsageError(f"{where}: not Karpathy's JSON: it has no list 'images'; give dataset_coco.json or its like")
    for number, entry in enumerate(entries):
        absent = [key for key in ("filename", "split", "sentences") if not isinstance(entry, dict) or key not in entry]
        if absent:
            raise UsageError(f"{where}: not Karpathy's JSON: image {number} has no '{absent[0]}'")
        names = [entry["filename"], entry["split"], entry.get("filepath", "")]
        if not all(isinstance(name, str) for name in names) or not isinstance(entry["sentences"], list):
            raise UsageError(
                f"{where}: not Karpathy's JSON: image {number}: 'filename', 'split' and 'filepath' are text, "
                "'sentences' is a list"
            )
        if not all(isinstance(s, dict) and isinstance(s.get("raw"), str) for s in entry["sentences"]):
            raise UsageError(f"{where}: not Karpathy's JSON: a sentence of '{entry['filename']}' has no text 'raw'")
        file = Path(entry.get("filepath", ""), entry["filename"])
        if ".." in file.parts or file.is_absolute():
            raise UsageError(f"{where}: '{file}' leaves the folder of pictures")
    return entries
