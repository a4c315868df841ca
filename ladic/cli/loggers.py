"""Where a run's numbers and pictures go: CSV always, TensorBoard unless told otherwise, W&B and MLflow by flag."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from ladic.errors import UsageError

LogTo = Literal["tensorboard", "wandb", "mlflow"]
_NEEDS = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}


def chosen_loggers(given: Any, log_to: LogTo | Sequence[LogTo] | None, root: str | Path | None) -> list[Logger] | bool:
    """The loggers of a run.

    Args:
        given: the configuration's ``trainer.logger``: built loggers, True where it names none, False for none at all.
        log_to: one more or several, from the flag; None is TensorBoard where the configuration names none.
        root: the run's folder.

    Raises:
        UsageError: if one is asked for that isn't installed.
    """
    if isinstance(log_to, str):
        log_to = [log_to]
    if given is False:
        if log_to:
            raise UsageError(f"--log_to={','.join(log_to)}: the configuration has trainer.logger: false; drop one")
        return False
    named = list(given) if isinstance(given, list | tuple) else ([] if given in (True, None) else [given])
    wanted = list(log_to) if log_to is not None else ([] if named else ["tensorboard"])
    folder = Path(root or os.getcwd())
    csv = next((logger for logger in named if isinstance(logger, CSVLogger)), None)
    if csv is None:
        csv = CSVLogger(folder, name="logs")
        named.insert(0, csv)  # the first one's folder is where config.yaml goes
    for name in wanted:
        if find_spec(_NEEDS[name]) is None:
            raise UsageError(f"--log_to={name}: it isn't installed; run `pip install 'ladic[loggers]'`")
        if name == "tensorboard":  # into the folder of metrics.csv
            named.append(TensorBoardLogger(csv.save_dir, name=csv.name, version=csv.version, default_hp_metric=False))
        elif name == "wandb":
            named.append(WandbLogger(project="ladic", name=folder.name, save_dir=folder))
        else:
            store = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(folder / 'mlflow.db').resolve()}"
            folder.mkdir(parents=True, exist_ok=True)
            named.append(MLFlowLogger(experiment_name="ladic", run_name=folder.name, tracking_uri=store))
    return named
