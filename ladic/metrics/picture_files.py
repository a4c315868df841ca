"""Which picture of a folder belongs to which image id; free of torch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ladic.errors import UsageError
from ladic.metrics.caption_files import Entry, References, plain
from ladic.metrics.scoring import ImageId

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def find_pictures(
    folder: str | Path, ids: Iterable[ImageId], references: References | None = None
) -> dict[ImageId, Path]:
    """Image id -> picture, for all ids.

    Pictures lie anywhere below the folder. An id is the name, the name without its ending or the number at its end; or
    the file of ``references`` says which picture it is of.

    Raises:
        UsageError: if there is no such folder, no picture in it, or none for some of the ids.

    Example:
        >>> import tempfile; folder = Path(tempfile.mkdtemp())
        >>> for name in ("COCO_val2014_000000000042.jpg", "COCO_val2014_000000000007.jpg"): (folder / name).touch()
        >>> find_pictures(folder, [42])[42].name
        'COCO_val2014_000000000042.jpg'
    """
    folder, wanted = Path(folder), list(ids)
    if not folder.is_dir():
        raise UsageError(f"--images {folder}: there is no such folder")
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in ENDINGS)
    pictures = References([Entry([str(file)], _names(file.relative_to(folder))) for file in files])
    written = [entry for entry in references.entries if "file" in entry.names] if references else []
    named = References([Entry([str(entry.names["file"])], entry.names, entry.split) for entry in written])
    by_reference = {i: texts[0] for i, texts in named.named_like(wanted).items()}
    by_file = pictures.named_like(by_reference.values())
    direct = pictures.named_like(wanted)
    found = {}
    for i in wanted:
        texts = by_file.get(by_reference.get(i, ""), direct.get(i))
        if texts is not None:
            found[i] = Path(texts[0])
    missing = [i for i in wanted if i not in found]
    if missing:
        raise UsageError(
            f"--images {folder}: {len(missing)} of {len(wanted)} images have no picture among its {len(files)}: "
            f"{', '.join(map(str, missing[:5]))}"
        )
    return found


def _names(file: Path) -> dict[str, ImageId]:
    names: dict[str, ImageId] = {"path": file.as_posix(), "file": file.name, "stem": plain(file.stem)}
    digits = re.search(r"\d+$", file.stem)
    return {**names, "number": int(digits[0])} if digits else names
