"""Captions by image id, gathered from all processes as bytes: scores are statistics of the whole set.

Each process adds what it generated; ``gather`` gives every process all of it, whoever had how much; images that the
distributed sampler handed out twice to fill up the last batch are kept once. Scoring comes after, on one process,
outside any collective call:

    store.add(image_id, captions, references)          # in each step
    everything = store.gather()                        # on all ranks
    if rank == 0:
        scores = score_captions(everything.captions, everything.references)
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ladic.metrics.scoring import ImageId


class CaptionStore:
    """What was generated for each image and what people wrote about it.

    Attributes:
        captions: image id -> caption; the empty caption is one like any other.
        references: image id -> references.
        numbers: image id -> name -> a number measured along the way (a CLIP score, seconds).
        conflicts: ids that came twice with different captions; the first one is kept.

    Example:
        >>> store = CaptionStore()
        >>> store.add([7, 8, 7], ["a dog", "", "a dog"], [["dogs"], ["a cat"], ["dogs"]])
        >>> store.captions, len(store)
        ({7: 'a dog', 8: ''}, 2)
    """

    def __init__(self) -> None:
        self.captions: dict[ImageId, str] = {}
        self.references: dict[ImageId, list[str]] = {}
        self.numbers: dict[ImageId, dict[str, float]] = {}
        self.conflicts: list[ImageId] = []

    def __len__(self) -> int:
        return len(self.captions)

    def add(
        self,
        image_id: Sequence[Any],
        captions: Sequence[str],
        references: Sequence[Sequence[str]],
        numbers: Sequence[dict[str, float]] | None = None,
    ) -> None:
        """Add a batch; an id that is there already is left as it is.

        Args:
            image_id: one per caption; an int, a string or a tensor with one integer.
            captions: the generated captions (B).
            references: for each its references.
            numbers: for each what else was measured.

        Raises:
            ValueError: when the lengths differ.
        """
        if isinstance(captions, str) or not len(image_id) == len(captions) == len(references):
            raise ValueError(
                f"{len(image_id)} image ids, {len(captions)} captions and {len(references)} lists of references: "
                "a batch needs one of each per image"
            )
        extra = numbers if numbers is not None else [{}] * len(captions)
        for key, caption, refs, measured in zip(image_id, captions, references, extra, strict=True):
            name = plain_id(key)
            if name in self.captions:
                if self.captions[name] != caption:
                    self.conflicts.append(name)
                continue
            self.captions[name] = caption
            self.references[name] = list(refs)
            self.numbers[name] = dict(measured)

    def gather(self, group: dist.ProcessGroup | None = None) -> CaptionStore:
        """A store with the captions of all processes, in the order of their ranks; the same on each of them.

        A collective call: all ranks of ``group`` make it, also one that has no caption. Without an initialised
        process group it returns a copy.
        """
        merged = CaptionStore()
        merged.conflicts += self.conflicts
        for share in _all_gather_bytes(self.to_bytes(), group):
            merged.update_from_bytes(share)
        if merged.conflicts:
            shown = ", ".join(map(str, merged.conflicts[:5]))
            warnings.warn(
                f"{len(merged.conflicts)} images came with two different captions (ids {shown}); the first is kept. "
                "A caption should not depend on the batch or the process it was made in.",
                stacklevel=2,
            )
        return merged

    def to_bytes(self) -> bytes:
        """One line of JSON per image, so that shares are joined by joining their bytes."""
        return b"".join(
            record_bytes(i, caption, self.references[i], self.numbers[i]) for i, caption in self.captions.items()
        )

    def update_from_bytes(self, data: bytes) -> None:
        """Add what ``to_bytes`` wrote."""
        for line in data.splitlines():
            record = json.loads(line)
            self.add([record[0]], [record[1]], [record[2]], [record[3]])


def record_bytes(image_id: Any, caption: str, references: Iterable[str], numbers: dict[str, float]) -> bytes:
    """One image as a line of JSON (ASCII, so a line break in a caption is no line break here)."""
    return json.dumps([plain_id(image_id), caption, list(references), numbers]).encode() + b"\n"


def plain_id(image_id: Any) -> ImageId:
    """An image id as int or str, also where the batch was collated into a tensor.

    Example:
        >>> plain_id(torch.tensor(42)), plain_id("000042")
        (42, '000042')
    """
    value = image_id.item() if hasattr(image_id, "item") else image_id
    if not isinstance(value, int | str):
        raise ValueError(f"an image id is an integer or a string, not {value!r}")
    return value


def _all_gather_bytes(data: bytes, group: dist.ProcessGroup | None) -> list[bytes]:
    if not (dist.is_available() and dist.is_initialized()):
        return [data]
    on_gpu = "nccl" in str(dist.get_backend(group))
    device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
    world = dist.get_world_size(group)
    lengths = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(world)]
    dist.all_gather(lengths, torch.tensor([len(data)], dtype=torch.int64, device=device), group=group)
    sizes = [int(length) for length in lengths]
    longest = max(sizes)
    if longest == 0:
        return [b""] * world
    mine = torch.zeros(longest, dtype=torch.uint8, device=device)
    mine[: len(data)] = to_tensor(data).to(device)
    shares = [torch.empty_like(mine) for _ in range(world)]
    dist.all_gather(shares, mine, group=group)
    return [from_tensor(share[:size]) for share, size in zip(shares, sizes, strict=True)]


def to_tensor(data: bytes) -> Tensor:
    """Bytes as a uint8 tensor (len(data),)."""
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)


def from_tensor(data: Tensor) -> bytes:
    """The bytes of a uint8 tensor."""
    return data.cpu().numpy().tobytes()
