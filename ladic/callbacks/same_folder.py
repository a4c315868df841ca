"""Checkpoints of a run that was stopped and goes on, in one folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")
"""Of a ``ModelCheckpoint``'s state."""


class SameFolder(Callback):
    """A ``ModelCheckpoint`` without a ``dirpath`` goes on in the folder that it had when the run was stopped.

    Lightning gives every sitting a folder of its own (``logs/version_N/checkpoints``), and one whose folder has changed
    forgets what was best before: the first validation after the stop would be the best of the run. A run that goes on
    from another run's checkpoint, in a folder of its own, begins anew.

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
            folder = trainer.strategy.broadcast(_folder(state, Path(trainer.default_root_dir)) if state else None)
            if folder is not None:
                states[callback.state_key] = _moved(state, folder)
                callback.dirpath = folder


def _folder(state: dict[str, Any], root: Path) -> str | None:
    """Where the checkpoints of a state are now; None if not in the run's folder."""
    root, before = root.resolve(), Path(state["dirpath"])
    if before.is_dir() and root in before.resolve().parents:
        return str(before)
    # The run's folder may have been moved.
    found = sorted(root.rglob(Path(state["best_model_path"]).name)) if state["best_model_path"] else []
    return str(found[-1].parent) if found else None


def _moved(state: dict[str, Any], folder: str) -> dict[str, Any]:
    def path(before: str) -> str:
        return str(Path(folder) / Path(before).name) if before else before

    return {
        **state,
        **{name: path(state[name]) for name in PATHS},
        "dirpath": folder,
        "best_k_models": {path(before): score for before, score in state["best_k_models"].items()},
    }
