"""What ``ladic data check`` finds out about a split: counts, broken pictures, captions, lengths, duplicates."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ladic.datamodules.images import BrokenImageError
from ladic.datamodules.source import CaptionSource

Tick = Callable[[], None]


@dataclass
class SplitReport:
    """Findings about one split.

    Attributes:
        pictures: in the split.
        captions: of all pictures together.
        per_picture: number of captions -> pictures that have as many.
        blank: captions of nothing but space, which are left out.
        looked_at: how many pictures were decoded.
        broken: image id -> what is wrong with the picture.
        smallest: height and width of the picture with the fewest pixels, and its id.
        lengths: tokens -> captions that have as many, [CLS] and [SEP] included; empty without a tokenizer.
        length: tokens that the latent space takes.
        twice: image ids whose file is byte for byte that of another picture, with that picture's id.
        elsewhere: image ids whose file is byte for byte that of a picture of another split, with split and id of that.
    """

    pictures: int = 0
    captions: int = 0
    per_picture: dict[int, int] = field(default_factory=dict)
    blank: int = 0
    looked_at: int = 0
    broken: dict[int | str, str] = field(default_factory=dict)
    smallest: tuple[int, int, int | str] | None = None
    lengths: dict[int, int] = field(default_factory=dict)
    length: int | None = None
    twice: list[tuple[int | str, int | str]] = field(default_factory=list)
    elsewhere: list[tuple[int | str, str, int | str]] = field(default_factory=list)

    @property
    def cut(self) -> int:
        """Captions longer than the latent space."""
        limit = self.length
        return 0 if limit is None else sum(count for tokens, count in self.lengths.items() if tokens > limit)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "broken": list(self.broken.items()), "cut": self.cut}


def check_captions(
    source: CaptionSource, token_lengths: Callable[[list[str]], list[int]] | None, length: int | None
) -> SplitReport:
    """Findings that need no picture.

    Args:
        source: the split.
        token_lengths: tokens of captions before they are cut.
        length: tokens that the latent space takes.
    """
    listed = [source.captions(index) for index in range(len(source))]
    captions = [caption for own in listed for caption in own]
    records = getattr(source, "records", ())
    counted: Counter[int] = Counter()
    for start in range(0, len(captions) if token_lengths else 0, 8192):
        counted.update(token_lengths(captions[start : start + 8192]))  # type: ignore[misc]
    return SplitReport(
        pictures=len(source),
        captions=len(captions),
        per_picture=dict(sorted(Counter(map(len, listed)).items())),
        blank=sum(not caption.strip() for record in records for caption in record.captions),
        lengths=dict(sorted(counted.items())),
        length=length,
    )


def check_pictures(
    source: CaptionSource,
    split: str,
    report: SplitReport,
    indices: range | list[int],
    seen: dict[str, tuple[str, int | str]],
    tick: Tick,
) -> None:
    """Decodes pictures and notes the broken ones, the smallest, and files that come twice.

    Args:
        source: the split.
        split: its name.
        report: where findings go.
        indices: the pictures to look at.
        seen: hash of a file -> split and id of the picture that had it first; those of this split are added.
        tick: called after each.
    """
    with ThreadPoolExecutor() as pool:
        for index, answer in zip(indices, pool.map(lambda place: _look(source, place), indices), strict=True):
            name = source.image_id(index)
            tick()
            if isinstance(answer, str):
                report.broken[name] = answer
                continue
            height, width, digest = answer
            if report.smallest is None or height * width < report.smallest[0] * report.smallest[1]:
                report.smallest = (height, width, name)
            first = (split, name) if digest is None else seen.setdefault(digest, (split, name))
            if first[0] != split:
                report.elsewhere.append((name, *first))
            elif first[1] != name:
                report.twice.append((name, first[1]))
    report.looked_at = len(indices)


def _look(source: CaptionSource, index: int) -> tuple[int, int, str | None] | str:
    """Height, width and the file's hash of a picture, or what is wrong with it."""
    try:
        image = source.image(index)
    except BrokenImageError as error:
        return str(error)
    path = source.path(index) if hasattr(source, "path") else None
    return image.height, image.width, None if path is None else file_hash(path)


def file_hash(path: Path) -> str:
    """Hash of a file."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "blake2b").hexdigest()


def histogram(lengths: dict[int, int], length: int | None, width: int = 40, bins: int = 12) -> list[str]:
    """Lines of a histogram of token lengths; those beyond ``length`` are marked, since they are cut.

    Example:
        >>> print("\\n".join(histogram({10: 4, 11: 2, 14: 1}, length=12, width=8, bins=3)))
        10-11 ████████ 6
        12-13          0
        14-15 █        1 cut at 12
    """
    if not lengths:
        return []
    low, high = min(lengths), max(lengths)
    step = max(1, -(-(high - low + 1) // bins))
    starts = range(low, high + 1, step)
    counts = [sum(lengths.get(tokens, 0) for tokens in range(start, start + step)) for start in starts]
    lines = []
    digits = len(str(starts[-1] + step - 1))
    for start, count in zip(starts, counts, strict=True):
        end = start + step - 1
        bar = "█" * (max(1, round(width * count / max(counts))) if count else 0)
        label = f"{start:{digits}}-{end:{digits}}" if step > 1 else f"{start:{digits}}"
        mark = f" cut at {length}" if length is not None and end > length and count else ""
        lines.append(f"{label} {bar:{width}} {count}{mark}")
    return lines
