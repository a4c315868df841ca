"""A folder of pictures without captions, to be captioned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from ladic.datamodules.base import CaptionDataModule
from ladic.datamodules.broken import without_broken
from ladic.datamodules.images import SUFFIXES, BrokenImageError, open_image
from ladic.datamodules.source import CaptionSource
from ladic.errors import UsageError
from ladic.features import FeatureCache


class FolderDataModule(CaptionDataModule):
    """The pictures of a folder and of the folders in it, for ``ladic predict``.

    A picture is known by its path in the folder, e.g. ``holidays/beach 1.jpg``; pictures come in the order of these.
    "skip_broken" says what share of them may be broken, as of training pictures elsewhere.

    Args:
        images: the folder.
        options: those of ``CaptionDataModule``.

    Raises:
        UsageError: if there is no such folder or no picture in it, or if captions are asked for.
    """

    def __init__(self, images: str, **options: Any) -> None:
        super().__init__(**options)
        self.images = Path(images)

    def setup(self, stage: str) -> None:
        if stage != "predict":
            asked = getattr(stage, "value", stage)  # Lightning's is an enum
            raise UsageError(
                f"data=FolderDataModule: its pictures have no captions to {asked} with; use `ladic predict`, or "
                "KarpathyDataModule for captioned pictures of your own"
            )
        super().setup(stage)

    def _to_evaluate(self, source: CaptionSource, cache: FeatureCache | None) -> CaptionSource:
        known = None if cache is None else cache.broken
        if not (self.skip_broken or known):
            return source
        return without_broken(source, self.skip_broken, self._run_folder(), known, split="test")

    def source(self, split: str) -> CaptionSource:
        if split != "test":
            raise UsageError(f"data=FolderDataModule: it has no split {split}, only test (pictures to caption)")
        if not self.images.is_dir():
            raise UsageError(f"data.images='{self.images}': no such folder; give a folder of pictures")
        files = sorted(
            file.relative_to(self.images).as_posix()
            for file in self.images.rglob("*")
            if file.suffix.lower() in SUFFIXES and file.is_file()
        )
        if not files:
            raise UsageError(f"data.images='{self.images}': no pictures in it ({', '.join(sorted(SUFFIXES))})")
        return FolderSource(self.images, files)


class FolderSource(CaptionSource):
    """Pictures by their paths in a folder; they have no captions."""

    def __init__(self, root: Path, files: list[str]) -> None:
        self.root, self.files = root, files

    def __len__(self) -> int:
        return len(self.files)

    def image_id(self, index: int) -> str:
        return self.files[index]

    def captions(self, index: int) -> list[str]:
        return []

    def image(self, index: int) -> Image.Image:
        try:
            return open_image(self.path(index))
        except BrokenImageError as error:
            raise BrokenImageError(f"{error}; --data.skip_broken=SHARE leaves broken pictures out") from error

    def path(self, index: int) -> Path:
        """Where the picture lies."""
        return self.root / self.files[index]
