"""Free disk against what a configuration will write."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ladic.doctor.finding import Finding
from ladic.doctor.machine import gib


def disk_finding(folder: Path, needed: int | None = None) -> Finding:
    """Room where a run will write.

    Args:
        folder: of the run; it need not exist yet.
        needed: bytes that the run will write, if known.
    """
    there = folder.resolve()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if needed is None:
        return Finding("disk", "ok" if free > 2**30 else "note", f"{gib(free)} free for '{folder}'")
    told = f"{gib(free)} free for '{folder}', where checkpoints will take {gib(needed)}"
    return Finding("disk", "ok" if free > needed else "bad", told + ("" if free > needed else "; make room"))


def checkpoint_bytes(model: Any, callbacks: list[Any]) -> int:
    """Bytes of all checkpoints that a run keeps at once, the one being written included.

    Weights that are stored count once, or twice where averaged ones are kept beside them; what is trained counts twice
    more for Adam's two moments.
    """
    from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging

    from ladic.frozen import frozen_keys, frozen_parts

    left_out = {} if model.save_frozen else frozen_parts(model)
    gone = {f"{name}.{key}" for name in left_out for key in frozen_keys(getattr(model, name))}
    stored = sum(value.nbytes for name, value in model.state_dict().items() if name not in gone)
    trained = sum(value.nbytes for value in model.parameters() if value.requires_grad)
    copies = 2 if any(isinstance(callback, WeightAveraging) for callback in callbacks) else 1
    one = stored * copies + 2 * trained
    files = 2  # resume.ckpt, and the one being written
    for callback in callbacks:
        if isinstance(callback, ModelCheckpoint):
            files += max(1, callback.save_top_k) + (1 if callback.save_last else 0)
    return one * files
