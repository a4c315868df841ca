"""Checkpoints of a run that was stopped and goes on, in one folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from ladic.checkpoints import newest_checkpoint, read_checkpoint

PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")
"""Of a ``ModelCheckpoint``'s state."""


class SameFolder(Callback):
    """A ``ModelCheckpoint`` without a ``dirpath`` goes on in the folder that it had when the run was stopped.

    Lightning gives every sitting a folder of its own (``logs/version_N/checkpoints``), and one whose folder has changed
    forgets what was best before: the first validation after the stop would be the best of the run. What goes on from
    another run's checkpoint, or from one that is not its run's newest, is a run of its own and has a folder of its own.

    ``ladic fit`` adds this by itself.
    """

    def __init__(self) -> None:
        self._free: list[ModelCheckpoint] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # Before those of checkpoints, which come last and choose their folders then.
        own: list[Any] = trainer.checkpoint_callbacks
        self._free = [one for one in own if isinstance(one, ModelCheckpoint) and one.dirpath is None]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn != "fit":
            return
        states = checkpoint.get("callbacks", {})
        for callback in self._free:
            state = states.get(callback.state_key)
            if not state or not trainer.ckpt_path:
                continue
            found = _folder(state["dirpath"], Path(trainer.ckpt_path), Path(trainer.default_root_dir))
            folder = trainer.strategy.broadcast(None if found is None else str(found))
            if folder is not None:
                last = Path(folder) / f"{callback.CHECKPOINT_NAME_LAST}{callback.FILE_EXTENSION}"
                states[callback.state_key] = _moved(state, folder, str(last) if last.is_file() else "")
                callback.dirpath = folder


def _folder(before: str, loaded: Path, root: Path) -> Path | None:
    """Where the checkpoints of a run are now that goes on from one of them; None where it becomes another run.

    Args:
        before: their folder when that one was saved.
        loaded: the checkpoint.
        root: the run's folder, which may have been moved.
    """
    root, parts = root.resolve(), Path(before).parts
    if root not in loaded.resolve().parents:
        return None
    found = next((folder for at in range(len(parts)) if (folder := root / Path(*parts[at:])).is_dir()), None)
    if found is None or root not in found.resolve().parents:
        return None
    newest = newest_checkpoint(found)
    behind = newest is not None and _step(newest) > _step(loaded)
    return None if behind else found


def _step(checkpoint: Path) -> int:
    return int(read_checkpoint(checkpoint, "meta").get("global_step", 0))


def _moved(state: dict[str, Any], folder: str, last: str) -> dict[str, Any]:
    """The state with its files in a folder; ``last`` is the file that stands for the run's last checkpoint there."""

    def path(before: str) -> str:
        return str(Path(folder) / Path(before).name) if before else before

    return {
        **state,
        **{name: path(state[name]) for name in PATHS},
        "last_model_path": path(state["last_model_path"]) or last,  # the best is saved before it is known
        "dirpath": folder,
        "best_k_models": {path(before): score for before, score in state["best_k_models"].items()},
    }
