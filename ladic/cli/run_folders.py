"""A run's folder where a file of it is wanted: ``-c RUN`` and ``ladic score RUN``."""

from __future__ import annotations

from pathlib import Path

from ladic.cli.bases import read_mapping
from ladic.errors import UsageError

OF_OTHERS = {"verbose", "return_predictions"}
"""Options that `ladic test`, `validate` and `predict` write into their own config.yaml."""


def with_runs(argv: list[str]) -> list[str]:
    """The words of a command line, with the configuration of a run in place of its folder in ``-c RUN``.

    Commands that read a checkpoint then read the run's, unless ``--ckpt_path`` says another.

    Raises:
        UsageError: if a folder holds no run.

    Example:
        ``["test", "-c", "runs/a"]`` becomes
        ``["test", "-c", "runs/a/logs/version_0/config.yaml", "--ckpt_path=runs/a"]``.
    """
    words: list[str] = []
    run: str | None = None
    rest = iter(argv)
    for word in rest:
        name, equals, value = word.partition("=")
        words.append(word)
        if name not in ("-c", "--config"):
            continue
        given = value if equals else next(rest, None)
        if given is None:
            continue
        words[-1:] = [name, given]
        if Path(given).is_dir():
            run, words[-1] = given, str(run_config(Path(given)))
    reads = bool(argv) and argv[0] in ("validate", "test", "predict")
    if run is not None and reads and not any(word.partition("=")[0] == "--ckpt_path" for word in words):
        words.append(f"--ckpt_path={run}")
    return words


def run_config(run: Path) -> Path:
    """The ``config.yaml`` that a run's newest training wrote.

    Raises:
        UsageError: if there is none.
    """
    places = ("config.yaml", "version_*/config.yaml", "*/version_*/config.yaml")  # Lightning's, below a logger's folder
    files = sorted((file for place in places for file in run.glob(place)), key=lambda file: file.stat().st_mtime)
    trained = [file for file in files if not OF_OTHERS & set(read_mapping(file))]
    if not trained:
        raise UsageError(f"--config '{run}': the folder has no config.yaml of a training; give a YAML file or a run")
    return trained[-1]


def run_file(run: str, name: str) -> str:
    """A file that ``ladic test`` wrote into a run's folder, or ``ladic validate``; other words as they are.

    Args:
        run: as typed; where it's no folder it is the answer.
        name: such as "results", of ``results_test.json``.

    Raises:
        UsageError: if a folder has no such file.
    """
    if not Path(run).is_dir():
        return run
    for split in ("test", "val"):
        file = Path(run) / f"{name}_{split}.json"
        if file.is_file():
            return str(file)
    raise UsageError(f"'{run}': the folder has no {name}_test.json; `ladic test -c {run}` writes it")
