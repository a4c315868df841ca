"""Writing checkpoints so that a file with the final name is always whole, and reading them without pickled code."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from ladic.checkpoints import read_checkpoint
from ladic.errors import UsageError


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes ``FILE.part``, forces it to the disk, and renames it; loads tensors and plain values only.

    A process killed at any moment leaves the old file or the new one, and at most a ``.part`` that nothing reads.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a checkpoint.

        Raises:
            UsageError: if the disk is full or the folder can't be written; what was there before stays.
        """
        final = Path(path)
        part = final.with_name(final.name + ".part")
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, final)
            _sync_folder(final.parent)
        except (OSError, RuntimeError) as error:  # torch's writer turns a full disk into a RuntimeError
            full = _is_full(error, final.parent)
            _remove(part)
            if not full and not isinstance(error, OSError):
                raise
            reason = "no space left on the disk" if full else (error.strerror or str(error))  # type: ignore[union-attr]
            kept = "the one saved before is intact" if final.exists() else "checkpoints saved before are intact"
            raise UsageError(
                f"checkpoint '{final}': can't be written ({reason}); {kept}; go on with --ckpt_path=auto"
            ) from error

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None) -> dict[str, Any]:
        """A checkpoint of ours; whatever ``weights_only`` says, nothing is unpickled."""
        return read_checkpoint(path, map_location or "cpu")


def _is_full(error: BaseException, folder: Path) -> bool:
    """Whether a write failed for want of space; torch's own errors don't say, so the disk is asked."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, OSError) or not folder.is_dir():
        return False
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize < 2**20


def _remove(part: Path) -> None:
    with contextlib.suppress(OSError):  # where the folder can't be written at all, the first error is the one to tell
        part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Forces the rename itself to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
