"""Broken pictures: found before training begins, listed, and left out up to a stated share.

They are found beforehand because the order of training is a function of seed, epoch and step: leaving a picture out
while a batch is made would change the batch's size, and on one rank alone.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch.distributed as dist

from ladic.datamodules.images import BrokenImageError
from ladic.datamodules.source import CaptionSource
from ladic.datamodules.subset import Subset
from ladic.errors import UsageError
from ladic.features import images_hash
from ladic.json_files import write_json


def without_broken(
    source: CaptionSource,
    share: float,
    folder: Path | None,
    known: dict[int | str, str] | None = None,
    split: str = "train",
) -> CaptionSource:
    """The source without its broken pictures; every rank has to call it.

    Args:
        source: pictures to train on, or to caption.
        share: of them that may be broken.
        folder: where the list goes, as ``broken_SPLIT.json``; the next run over the same pictures uses it again.
        known: image id -> what is wrong with it, where that was found before (by ``ladic cache-features``).
        split: name of the split.

    Raises:
        UsageError: if more than ``share`` are broken, naming the first.
    """
    ids = [source.image_id(index) for index in range(len(source))]
    file = None if folder is None else folder / f"broken_{split}.json"
    broken = known if known is not None else _from_rank_zero(_listed(file, ids))
    if broken is None:
        broken = find_broken(source)
        if file is not None and _rank() == 0:
            write_json(file, {"images": images_hash(ids), "broken": list(broken.items())})
    gone = [image_id for image_id in ids if image_id in broken]
    if not gone:
        return source
    told = f"{len(gone)} of {len(ids)} pictures of {split} are broken ({100 * len(gone) / len(ids):.3g} %), the first: "
    told += broken[gone[0]]
    if len(gone) > share * len(ids):
        raise UsageError(f"data.skip_broken={share:g}: {told}; mend them, or allow a larger share")
    if _rank() == 0:
        where = "" if file is None or known is not None else f"; all are listed in {file}"
        warnings.warn(f"data.skip_broken: {told}; they are left out{where}", stacklevel=2)
    return Subset(source, [index for index, image_id in enumerate(ids) if image_id not in broken])


def find_broken(source: CaptionSource) -> dict[int | str, str]:
    """Image id -> what is wrong, of every picture that can't be decoded; the ranks of a run share the work."""
    from rich.console import Console
    from rich.progress import track

    rank, world = _rank(), dist.get_world_size() if _distributed() else 1
    mine = range(rank, len(source), world)
    bar = Console(stderr=True)
    found: list[tuple[int, str]] = []
    # Decoding runs outside Python's lock, so that threads are enough.
    with ThreadPoolExecutor(max_workers=_cpus()) as pool:
        answers = pool.map(lambda index: _reason(source, index), mine)
        hidden = rank > 0 or not bar.is_terminal
        for index, reason in track(
            zip(mine, answers, strict=True), "looking for broken pictures", len(mine), console=bar, disable=hidden
        ):
            if reason is not None:
                found.append((index, reason))
    if _distributed():
        everyone: list[list[tuple[int, str]]] = [[] for _ in range(world)]
        dist.all_gather_object(everyone, found)
        found = sorted(pair for own in everyone for pair in own)
    return {source.image_id(index): reason for index, reason in found}


def _reason(source: CaptionSource, index: int) -> str | None:
    try:
        source.image(index)
    except BrokenImageError as error:
        return str(error)
    return None


def _listed(file: Path | None, ids: list[int | str]) -> dict[int | str, str] | None:
    """What an earlier run over the same pictures found."""
    if file is None or not file.is_file():
        return None
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        if stored["images"] != images_hash(ids):
            return None
        found = {image_id: str(reason) for image_id, reason in stored["broken"]}
    except (ValueError, KeyError, TypeError):
        return None
    if _rank() == 0:
        print(f"broken pictures as listed in {file}; remove it to look again", file=sys.stderr)
    return found


def _from_rank_zero(found: dict[int | str, str] | None) -> dict[int | str, str] | None:
    """The same answer on all ranks, whichever of them can see the file."""
    if not _distributed():
        return found
    box = [found]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def _rank() -> int:
    return dist.get_rank() if _distributed() else 0
