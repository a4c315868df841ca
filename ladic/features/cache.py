"""Reading a cache of image tokens, once it has been made sure that it is the right one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ladic.errors import UsageError
from ladic.features.codec import decode, first_not_whole
from ladic.features.writer import FORMAT, apart, differing, read_index, read_manifest, relative_error

TOLERANCE = 0.05
"""Relative error up to which tokens count as the same. Tokens of another picture are off by 0.3 and more, those made
on another device or in half precision by less than 0.02."""

MAPS = 128
"""Files of a split that are mapped at once; each takes a descriptor, of which a process often has 1024."""


class FeatureCache:
    """Cached image tokens of one split, read by image id; files are mapped when needed, by every process itself.

    Args:
        folder: written by ``ladic cache-features``.
        split: of the datamodule.

    Attributes:
        views: how many were cached of each picture; number 0 is the plain one.
        broken: image id -> what is wrong, of pictures that have no tokens.

    Raises:
        UsageError: if the cache or a file of it is missing, cut off or incomplete.
    """

    def __init__(self, folder: str | Path, split: str) -> None:
        self.folder, self.split = Path(folder), split
        self._option = f"data.features='{folder}'"
        manifest = read_manifest(self.folder)
        if manifest is not None and manifest.get("version") != FORMAT:
            raise UsageError(
                f"{self._option}: made with {differing(manifest, {'version': FORMAT})}; make it again with "
                "`ladic cache-features --overwrite`"
            )
        stored = read_index(self.folder, split)
        if manifest is None or stored is None:
            absent = "manifest.json" if manifest is None else f"{split}.json"
            raise UsageError(
                f"{self._option}: {absent} is missing; make the cache with "
                f"`ladic cache-features -c CONFIG --output {folder} --splits {split}`"
            )
        self.manifest, self.rows_per_file = manifest, int(stored["rows_per_file"])
        self.views: int = manifest["views"]
        ids: list[int | str] = stored["image_id"]
        self.rows = {image_id: row for row, image_id in enumerate(ids)}
        self._check_files(stored["complete"])
        self.broken: dict[int | str, str] = {ids[row]: reason for row, reason in stored["broken"]}
        self.error: float = (stored["relative_error"] or {"largest": 0.0})["largest"]
        self._files: dict[str, np.ndarray] = {}

    def check(self, expected: dict[str, str], image_ids: list[int | str]) -> None:
        """Refuses a cache of another encoder, preprocessing or set of images.

        Raises:
            UsageError: naming what differs.
        """
        for key, value in expected.items():
            if self.manifest.get(key) != value:
                made, wanted = apart(self.manifest.get(key), value)
                raise UsageError(
                    f"{self._option}: made with {key} {made}, the model has {wanted}; make it again with "
                    "`ladic cache-features`"
                )
        missing = [image_id for image_id in image_ids if image_id not in self.rows]
        if missing:
            raise UsageError(
                f"{self._option}: {len(missing)} images of {self.split} are not in it, the first is "
                f"{missing[0]!r}; make it again with `ladic cache-features`"
            )

    def check_views(self, augment: str) -> None:
        """Refuses to train with augmentation on a cache that was made without, or with another.

        Raises:
            UsageError: saying how to make one.
        """
        made = self.manifest["augment"]
        if augment != "none" and (self.views < 2 or made != augment):
            raise UsageError(
                f"data.augment='{augment}': {self._option} has {self.views} views made with augment '{made}'; make it "
                "again with `ladic cache-features --views 4`, or give --data.augment=none"
            )

    def check_sample(self, image_ids: list[int | str], encode: Callable[[int], Tensor], size: int = 3) -> None:
        """Encodes a few pictures again, other ones every time, and compares.

        Args:
            image_ids: the pictures of the split.
            encode: ``encode(index) -> (N, C)``, the tokens of ``image_ids[index]``.
            size: how many pictures.

        Raises:
            UsageError: naming a picture whose cached tokens are others.
        """
        whole = [index for index, image_id in enumerate(image_ids) if image_id not in self.broken]
        chosen = np.random.default_rng().choice(len(whole), min(size, len(whole)), replace=False)
        for index in (whole[place] for place in chosen):
            error = relative_error(self.tokens(image_ids[index]), encode(index))
            if not error <= TOLERANCE + self.error:
                raise UsageError(
                    f"{self._option}: its tokens of {image_ids[index]!r} are not those that the encoder gives now "
                    f"(relative error {error:.2g}): the picture or the library changed, or the cache is damaged; make "
                    "it again with `ladic cache-features --overwrite`"
                )

    def tokens(self, image_id: int | str, view: int = 0) -> Tensor:
        """(N, C) tokens of a picture, float16 or bfloat16.

        Raises:
            UsageError: if the picture was broken when the cache was made.
        """
        if image_id in self.broken:
            raise UsageError(f"{self._option}: {image_id!r} has no tokens: {self.broken[image_id]}")
        number, place = divmod(self.rows[image_id], self.rows_per_file)
        scales = self._array(number, ".scales.npy")[place, view] if self.manifest["format"] == "int8" else None
        return decode(self._array(number, ".npy")[place, view], scales, self.manifest["format"])

    def _array(self, number: int, ending: str) -> np.ndarray:
        name = f"{self.split}-{number:05d}{ending}"
        array = self._files.pop(name, None)
        if array is None:
            array = np.load(self.folder / name, mmap_mode="r")
        self._files[name] = array  # the newest are last
        for oldest in list(self._files)[:-MAPS]:
            self._files.pop(oldest, None)
        return array

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}}  # a map copied into a worker would be a copy of the file

    def _check_files(self, complete: bool) -> None:
        """Refuses a cache with files missing or cut off."""
        count = -(-len(self.rows) // self.rows_per_file)
        cut = []
        for number in range(count):
            rows = min(self.rows_per_file, len(self.rows) - number * self.rows_per_file)
            if found := first_not_whole(self.folder / f"{self.split}-{number:05d}", rows, self.manifest):
                cut.append(f"{found.name} is {'cut off' if found.is_file() else 'missing'}")
        whole = count - len(cut)
        if cut and not complete:
            raise UsageError(
                f"{self._option}: {self.split} has {whole} of {count} files; run the same `ladic cache-features` "
                "again, it goes on there"
            )
        if cut:
            raise UsageError(
                f"{self._option}: {cut[0]} ({whole} of {count} files are whole); run the same `ladic cache-features` "
                "again, it makes what is missing"
            )
        if not complete:
            raise UsageError(
                f"{self._option}: {self.split} has all {count} files but was not finished; run the same "
                "`ladic cache-features` again"
            )
