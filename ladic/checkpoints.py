"""Finding and reading checkpoints, without ever unpickling code."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ladic.errors import UsageError

BEST = "best:"
"""Before a run's folder: its best checkpoint instead of its last."""

FORMAT = 2
"""Version of what a checkpoint stores under "ladic". Older ones are read too.

1. All weights are in the file.
2. Frozen weights may be left out; "frozen" says of which components, with source and hash (``ladic.frozen``).
"""


def find_checkpoint(path: str | Path) -> Path:
    """A ``.ckpt`` file; or of a run's folder its ``last.ckpt``, or a ``resume.ckpt`` that is newer; or else its newest
    checkpoint. Of "best:FOLDER" the one that the run's ``ModelCheckpoint`` found best by the score that it monitors.

    Raises:
        UsageError: if there is none.
    """
    if str(path).startswith(BEST):
        return _best_checkpoint(Path(str(path).removeprefix(BEST)))
    path = Path(path)
    if path.is_file():
        return path
    found = sorted(path.rglob("*.ckpt"), key=_rank)
    if not found:
        what = "holds no .ckpt file" if path.is_dir() else "no such file or folder"
        raise UsageError(f"checkpoint '{path}': {what}; give the .ckpt file or the folder of a run")
    last = found[-1]
    newer = [file for file in found if file.name == "resume.ckpt" and file.stat().st_mtime > last.stat().st_mtime]
    return newer[-1] if last.name == "last.ckpt" and newer else last


def _best_checkpoint(folder: Path) -> Path:
    states = read_checkpoint(find_checkpoint(folder), "meta").get("callbacks", {}).values()
    watching = [state for state in states if isinstance(state, dict) and state.get("best_model_path")]
    watching = [state for state in watching if state.get("monitor") is not None]
    if not watching:
        raise UsageError(
            f"checkpoint '{BEST}{folder}': no score was watched when it was trained; give the folder without '{BEST}', "
            "or train with a ModelCheckpoint that has a 'monitor'"
        )
    name = Path(watching[0]["best_model_path"]).name
    found = sorted(folder.rglob(name), key=lambda file: file.stat().st_mtime)
    if not found:
        raise UsageError(f"checkpoint '{BEST}{folder}': '{name}' is gone; give the folder without '{BEST}'")
    return found[-1]


def _rank(file: Path) -> tuple[bool, bool, float]:
    """Names before times; a run's ``resume.ckpt`` is no better than the best that it chose to keep."""
    return file.name == "last.ckpt", file.name != "resume.ckpt", file.stat().st_mtime


def newest_checkpoint(folder: str | Path) -> Path | None:
    """The checkpoint of a run that has come furthest, the newer of two; None if there is none.

    Files that can't be read are passed over with a warning.
    """
    found: list[tuple[int, float, Path]] = []
    for file in Path(folder).rglob("*.ckpt"):
        try:
            found.append((int(read_checkpoint(file, "meta").get("global_step", 0)), file.stat().st_mtime, file))
        except (UsageError, OSError) as error:  # OSError: removed in the meantime, by a run that keeps its best few
            warnings.warn(f"passed over: {error}", stacklevel=2)
    return max(found)[2] if found else None


def read_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """The contents of a captioner's checkpoint.

    Raises:
        UsageError: if the file is missing, damaged, holds pickled code, or was not written by this project.
    """
    file = find_checkpoint(path)
    try:
        checkpoint = torch.load(file, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:  # torch's own words say how to run the code in it all the same
        raise UsageError(
            f"checkpoint '{file}': can't be read: it is no checkpoint, or has code in it, which ladic never runs; give "
            "one that `ladic fit` wrote"
        ) from error
    except Exception as error:  # what a damaged file raises depends on where the damage is
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(f"checkpoint '{file}': can't be read ({reason}); is the file complete?") from error
    if not isinstance(checkpoint, dict) or "ladic" not in checkpoint:
        raise UsageError(f"checkpoint '{file}': not written by ladic; give one that `ladic fit` wrote")
    if checkpoint["ladic"]["format"] > FORMAT:
        raise UsageError(
            f"checkpoint '{file}': format {checkpoint['ladic']['format']} is newer than this ladic; update it"
        )
    return checkpoint


def check_shapes(module: nn.Module, state_dict: dict[str, Tensor]) -> None:
    """Refuses a state dict of other sizes, naming the first tensors that don't fit.

    Raises:
        UsageError: in one line, instead of PyTorch's list of every tensor.
    """
    own = module.state_dict()
    resized = {key.rsplit(".", 1)[0] for key in own if key.endswith("head.vocabulary")}  # the head follows the file
    wrong = [
        f"{key} {tuple(value.shape)} where the model has {tuple(own[key].shape)}"
        for key, value in state_dict.items()
        if key in own and own[key].shape != value.shape and not any(key.startswith(prefix) for prefix in resized)
    ]
    wrong += [f"{key} missing" for key in own if key not in state_dict]
    wrong += [f"{key} unknown" for key in state_dict if key not in own]
    if wrong:
        raise UsageError(
            f"checkpoint: made by a model of other sizes or parts ({len(wrong)} tensors differ: "
            f"{'; '.join(wrong[:3])}); use the config it was trained with"
        )
