"""What a sweep consists of: rows, seeds, the commands of each run, and what makes a row the row that it is."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ladic.cli.configs_diff import flatten, load
from ladic.errors import UsageError
from ladic.plugins import unknown


@dataclass(frozen=True)
class Prepare:
    """A command that several rows need the result of.

    Attributes:
        command: words after ``ladic``.
        makes: the file or folder that shows it was done.
    """

    command: tuple[str, ...]
    makes: Path


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        name: also of its folder.
        configs: given by ``-c``, lowest first.
        flags: above them.
        commands: in order, each one of Lightning's subcommands and flags for it alone.
        seeds: one run for each.
        minutes: of training, or None where steps or epochs end it.
        prepare: steps before all runs of the sweep.
        weights: the row whose training this one takes over, seed by seed; None trains its own.
        teacher: the row whose weights it learns from, seed by seed (``--model.teacher.checkpoint``), if any.
        best: whether the checkpoint that was best in validation is tested, and not the last.
    """

    name: str
    configs: tuple[Path, ...]
    flags: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]
    seeds: tuple[int, ...]
    minutes: float | None
    prepare: tuple[Prepare, ...] = ()
    weights: Row | None = None
    teacher: Row | None = None
    best: bool = False

    def definition(self) -> dict[str, Any]:
        """Every option that the row's files and flags set, by the names of flags, whichever of them sets it; and the
        commands that prepare the files which these options name, so that steps for other rows may come and go.
        """
        values, steps = self._options(), self.steps()
        values |= {"commands": [shlex.join(command) for command in self.commands], "minutes": self.minutes}
        values |= {f"prepare.{step.makes}": shlex.join(step.command) for step in steps}
        if self.best:
            values["checkpoint"] = "best"
        for name, other in (("weights", self.weights), ("teacher", self.teacher)):
            if other is not None:
                values |= {f"{name}.{key}": value for key, value in other.definition().items()}
        return json.loads(json.dumps(values, sort_keys=True, default=str))  # as it comes back from a file

    def steps(self) -> list[Prepare]:
        """The preparations of files that its options name, in order."""
        own = [word for command in self.commands for word in command]
        return used([*_texts(list(self._options().values())), *own], self.prepare)

    def _options(self) -> dict[str, Any]:
        import yaml

        values = flatten(load(*self.configs))
        for flag in self.flags:
            name, _, value = flag.removeprefix("--").partition("=")
            try:
                plain = yaml.safe_load(value)
            except yaml.YAMLError:
                plain = value
            values[name] = [*values.get(name, []), plain] if name.endswith("+") else plain
        return values


@dataclass(frozen=True)
class Run:
    """A row with a seed, in a folder of its own."""

    row: Row
    seed: int
    folder: Path

    @property
    def trained(self) -> Run:
        """The run that trains the weights of this one; itself, where it trains its own."""
        return self if self.row.weights is None else self._of(self.row.weights)

    @property
    def teacher(self) -> Run | None:
        """The run whose weights this one learns from, if any."""
        return None if self.row.teacher is None else self._of(self.row.teacher)

    def before(self) -> list[Run]:
        """The runs whose weights this one tests or learns from."""
        return [self._of(row) for row in (self.row.weights, self.row.teacher) if row is not None]

    @property
    def first(self) -> Run:
        """The run that this one waits for, and whose own predecessors it waits for; itself if there is none."""
        before = self.trained if self.row.weights is not None else self.teacher
        return self if before is None else before.first

    def _of(self, row: Row) -> Run:
        return Run(row, self.seed, self.folder.parents[1] / row.name / self.folder.name)

    def __str__(self) -> str:
        return f"{self.row.name}, seed {self.seed}"

    def commands(self) -> list[list[str]]:
        """Words after ``ladic`` of every command: what goes on where it was cut off, if it was."""
        row = self.row
        shared = [
            *self.options(),
            f"--seed_everything={self.seed}",
            f"--trainer.default_root_dir={self.folder}",
        ]
        budget = []
        if row.minutes is not None:
            budget = [
                f"--trainer.max_time={max_time(row.minutes)}",
                "--trainer.max_steps=-1",
                "--trainer.max_epochs=-1",
                "--trainer.min_steps=null",  # where they stand, training goes on until they are reached
                "--trainer.min_epochs=null",
            ]
        return [
            [
                name,
                *shared,
                *(budget if name == "fit" else []),
                *own,
                f"--ckpt_path={'auto' if name == 'fit' else self.trained.checkpoint}",
            ]
            for name, *own in row.commands
        ]

    @property
    def checkpoint(self) -> str:
        """Of its training, as ``find_checkpoint`` reads it."""
        return f"{'best:' if self.row.best else ''}{self.folder}"

    def options(self) -> list[str]:
        """Files and flags that say what the row is."""
        words = [word for config in self.row.configs for word in ("-c", str(config))]
        taught = [] if self.teacher is None else [f"--model.teacher.checkpoint={self.teacher.checkpoint}"]
        return [*words, *taught, *self.row.flags]


@dataclass(frozen=True)
class Sweep:
    """A sweep file.

    Attributes:
        file: where it is.
        output: folder of the runs and of the table.
        metric: of the figure, as ``scores_test.json`` names it.
        prepare: steps before all runs, in order.
        rows: in the order of the file.
    """

    file: Path
    output: Path
    metric: str
    prepare: tuple[Prepare, ...]
    rows: tuple[Row, ...]

    def needed(self, runs: Sequence[Run]) -> list[Prepare]:
        """The preparations for these runs, in order: of files that their rows name, or that no row at all does."""
        named = [step for row in self.rows for step in row.steps()]
        own = [step for row in dict.fromkeys(run.row for run in runs) for step in row.steps()]
        return [step for step in self.prepare if step in own or step not in named]

    def runs(self, only: Sequence[str] | None = None, seeds: Sequence[int] | None = None) -> list[Run]:
        """Rows times seeds, row by row.

        Args:
            only: names of rows; all if None.
            seeds: instead of those of the file.

        Raises:
            UsageError: for a name that no row has.
        """
        names = [row.name for row in self.rows]
        for name in only or ():
            if name not in names:
                raise UsageError(f"--only: {unknown('row', name, names)}")
        return [
            Run(row, seed, self.output / row.name / f"seed-{seed}")
            for row in self.rows
            if only is None or row.name in only
            for seed in (row.seeds if seeds is None else seeds)
        ]


def used(words: Sequence[str], steps: Sequence[Prepare]) -> list[Prepare]:
    """The steps whose files are named by words, "--NAME=FILE" or the like, or by another such step's command.

    A folder that the file is in names it too, and so does what lies in it if it is a folder. "." is a token here, not
    the folder of everything.

    Example:
        >>> text = Prepare(("pretrain-text", "--output=runs/text"), Path("runs/text"))
        >>> space = Prepare(("fit-space", "--text", "runs/text/model", "--output=a.pt"), Path("a.pt"))
        >>> [step.command[0] for step in used(["--model.latent_space.fitted=a.pt"], [text, space])]
        ['pretrain-text', 'fit-space']
    """
    named = {
        Path(os.path.abspath(part)) for word in words for part in (word, word.partition("=")[2]) if part.strip("./")
    }
    chosen = [step for step in steps if any(_names(path, Path(os.path.abspath(step.makes))) for path in named)]
    if len(chosen) == len(steps):
        return chosen
    others = [step for step in steps if step not in chosen]
    behind = used([word for step in chosen for word in step.command], others) if chosen else []
    return [step for step in steps if step in chosen or step in behind]


def _names(path: Path, made: Path) -> bool:
    return path == made or path in made.parents or made in path.parents


def _texts(value: Any) -> list[str]:
    """All texts in lists and mappings."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []


def fingerprint(definition: dict[str, Any]) -> str:
    """A hash of a row's definition, the same whatever the order of its options.

    Example:
        >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()


def change(before: dict[str, Any], now: dict[str, Any]) -> str:
    """The first option in which two definitions differ, in words, and how many others do.

    Example:
        >>> change({"model.seed": 1, "minutes": 5}, {"model.seed": 2, "minutes": 5})
        'model.seed was 1 and is 2'
    """
    names = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    first, *others = names
    was, value = (json.dumps(side[first]) if first in side else "not given" for side in (before, now))
    return f"{first} was {was} and is {value}" + (f", and {len(others)} more" if others else "")


def max_time(minutes: float) -> str:
    """Lightning's DD:HH:MM:SS.

    Example:
        >>> max_time(90.5)
        '00:01:30:30'
    """
    seconds = round(60 * minutes)
    days, rest = divmod(seconds, 86_400)
    return f"{days:02d}:{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
