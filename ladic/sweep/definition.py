"""What a sweep file says: rows, seeds, the commands of each run, and what makes a row the row that it is."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ladic.cli.bases import bases_of
from ladic.cli.configs_diff import flatten, load
from ladic.errors import UsageError
from ladic.plugins import one_line, unknown

COMMANDS = ("fit", "validate", "test", "predict")
KEYS = ("output", "seeds", "minutes", "metric", "configs", "flags", "commands", "prepare", "rows")
ROW_KEYS = ("configs", "flags", "commands", "seeds")
PREPARE_KEYS = ("command", "makes")
OWNED = ("-c", "--config", "--seed_everything", "--ckpt_path", "--trainer.default_root_dir")
ENDS = ("max_time", "max_steps", "max_epochs", "min_steps", "min_epochs")
OWNED_BY_MINUTES = tuple(f"--trainer.{name}" for name in ENDS)


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
    """

    name: str
    configs: tuple[Path, ...]
    flags: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]
    seeds: tuple[int, ...]
    minutes: float | None
    prepare: tuple[Prepare, ...] = ()

    def definition(self) -> dict[str, Any]:
        """Every option that the row's files and flags set, by the names of flags, whichever of them sets it; and the
        commands that prepare the files which these options name, so that steps for other rows may come and go.
        """
        import yaml

        values = flatten(load(*self.configs))
        for flag in self.flags:
            name, _, value = flag.removeprefix("--").partition("=")
            try:
                plain = yaml.safe_load(value)
            except yaml.YAMLError:
                plain = value
            values[name] = [*values.get(name, []), plain] if name.endswith("+") else plain
        steps = used([*_texts(list(values.values())), *(word for own in self.commands for word in own)], self.prepare)
        values |= {"commands": [shlex.join(command) for command in self.commands], "minutes": self.minutes}
        values |= {f"prepare.{step.makes}": shlex.join(step.command) for step in steps}
        return json.loads(json.dumps(values, sort_keys=True, default=str))  # as it comes back from a file


@dataclass(frozen=True)
class Run:
    """A row with a seed, in a folder of its own."""

    row: Row
    seed: int
    folder: Path

    def __str__(self) -> str:
        return f"{self.row.name}, seed {self.seed}"

    def commands(self) -> list[list[str]]:
        """Words after ``ladic`` of every command: what goes on where it was cut off, if it was."""
        row = self.row
        shared = [word for config in row.configs for word in ("-c", str(config))]
        shared += [*row.flags, f"--seed_everything={self.seed}", f"--trainer.default_root_dir={self.folder}"]
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
                f"--ckpt_path={'auto' if name == 'fit' else self.folder}",
            ]
            for name, *own in row.commands
        ]


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

    A folder that the file is in names it too, and so does what lies in it if it is a folder.

    Example:
        >>> text = Prepare(("pretrain-text", "--output=runs/text"), Path("runs/text"))
        >>> space = Prepare(("fit-space", "--text", "runs/text/model", "--output=a.pt"), Path("a.pt"))
        >>> [step.command[0] for step in used(["--model.latent_space.fitted=a.pt"], [text, space])]
        ['pretrain-text', 'fit-space']
    """
    named = {Path(os.path.abspath(part)) for word in words for part in (word, word.partition("=")[2]) if part}
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


# Reading.


def read_sweep(file: Path) -> Sweep:
    """A sweep file, every value of it checked.

    Configurations are named from the file's own folder, or as ``ladic configs`` lists them; all other paths start
    where the command is run.

    Raises:
        UsageError: naming file, key and value, and what is accepted.
    """
    content = _content(file)
    top = _Part(file, "", content, KEYS)
    rows = top.get("rows", dict, "names of rows, each with what it has of its own")
    if not rows:
        raise top.wrong("rows", rows, "at least one row")
    minutes = top.minutes()
    prepare = top.get("prepare", list, "a list of steps, each with 'command' and 'makes'") or []
    steps = tuple(_prepare(_Part(file, f"prepare.{place}.", step, PREPARE_KEYS)) for place, step in enumerate(prepare))
    shared = _shared(top, minutes, steps)
    built = []
    for name, values in rows.items():
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", str(name)):
            raise top.wrong("rows", name, "names of letters, digits, '_', '-' and '.', for folders are named so")
        built.append(_row(str(name), _Part(file, f"rows.{name}.", values or {}, ROW_KEYS), shared))
    output = top.get("output", str, "a folder for the runs")
    if not output:
        raise top.wrong("output", output, "a folder for the runs")
    metric = top.get("metric", str, "a score of scores_test.json, such as CIDEr-D") or "CIDEr-D"
    return Sweep(file, Path(output), metric, steps, tuple(built))


def _content(file: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"sweep '{file}': {error.strerror or error}; give a YAML file with 'rows:'") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"sweep '{file}': not YAML ({one_line(error)})") from error


class _Part:
    """A mapping of a sweep file, whose complaints say where it is.

    Raises:
        UsageError: if it isn't one, or has a key that isn't accepted.
    """

    def __init__(self, file: Path, where: str, values: Any, keys: Sequence[str]) -> None:
        self.file, self.where, self.values = file, where, values
        if not isinstance(values, dict):
            raise UsageError(
                f"sweep '{file}': {where.rstrip('.') or 'the file'}={values!r}: accepted are the keys {', '.join(keys)}"
            )
        for key in values:
            if key not in keys:
                raise UsageError(f"sweep '{file}': {where}{key}: {unknown('key', str(key), keys)}")

    def wrong(self, key: str, value: Any, accepted: str) -> UsageError:
        return UsageError(f"sweep '{self.file}': {self.where}{key}={value!r}: accepted is {accepted}")

    def get(self, key: str, kind: type, accepted: str) -> Any:
        """A value, None where it isn't given."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, kind):
            raise self.wrong(key, value, accepted)
        return value

    def minutes(self) -> float | None:
        value = self.values.get("minutes")
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 1 / 60 <= value < 1e6:
            raise self.wrong("minutes", value, "a number of minutes of training, at least a second")
        return float(value)

    def seeds(self) -> tuple[int, ...] | None:
        accepted = "a list of whole numbers from 0, each once"
        seeds = self.get("seeds", list, accepted)
        if seeds is None:
            return None
        whole = all(isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in seeds)
        if not seeds or not whole or len(set(seeds)) < len(seeds):
            raise self.wrong("seeds", seeds, accepted)
        return tuple(seeds)

    def words(self, key: str, accepted: str) -> list[str]:
        """A list of texts."""
        values = self.get(key, list, accepted) or []
        for value in values:
            if not isinstance(value, str):
                raise self.wrong(key, value, accepted)
        return values

    def configs(self) -> tuple[Path, ...]:
        return tuple(self._config(name) for name in self.words("configs", "a list of YAML files"))

    def _config(self, name: str) -> Path:
        from ladic.cli.configs import find_configs

        own = self.file.parent / name
        if own.is_file():
            bases_of(own)  # tells of one that is missing
            return own
        shipped = find_configs()
        if name.removesuffix(".yaml") in shipped:
            return Path(str(shipped[name.removesuffix(".yaml")]))
        raise self.wrong("configs", name, f"a file in '{self.file.parent}', or a name that `ladic configs` lists")

    def flags(self, minutes: float | None) -> tuple[str, ...]:
        accepted = "a list of flags as '--NAME=VALUE'"
        flags = self.words("flags", accepted)
        for flag in flags:
            self._check("flags", flag, accepted, minutes)
        return tuple(flags)

    def _check(self, key: str, flag: str, accepted: str, minutes: float | None) -> None:
        name = flag.partition("=")[0]
        if name in OWNED or (minutes is not None and name in OWNED_BY_MINUTES):
            owner = {"-c": "'configs'", "--config": "'configs'", "--seed_everything": "'seeds'"}
            by = "'minutes'" if name in OWNED_BY_MINUTES else owner.get(name, "the sweep itself, for each run's folder")
            raise UsageError(f"sweep '{self.file}': {self.where}{key}='{flag}': {name} is set by {by}; leave it out")
        if not re.fullmatch(r"--[A-Za-z][\w.+-]*=.*", flag, re.DOTALL):
            raise self.wrong(key, flag, accepted)

    def commands(self, minutes: float | None) -> tuple[tuple[str, ...], ...]:
        accepted = f"a list of {', '.join(COMMANDS)}, each with flags of its own as '--NAME=VALUE'"
        commands = []
        for text in self.words("commands", accepted):
            try:
                name, *flags = shlex.split(text)
            except ValueError as error:
                raise self.wrong("commands", text, accepted) from error
            if name not in COMMANDS:
                raise self.wrong("commands", text, accepted)
            for flag in flags:
                self._check("commands", flag, accepted, minutes)
            commands.append((name, *flags))
        return tuple(commands)


def _shared(top: _Part, minutes: float | None, steps: tuple[Prepare, ...]) -> Row:
    """What all rows have, as a row without a name."""
    commands = top.commands(minutes) or (("fit",), ("test",))
    return Row("", top.configs(), top.flags(minutes), commands, top.seeds() or (0,), minutes, steps)


def _row(name: str, part: _Part, shared: Row) -> Row:
    minutes = shared.minutes
    configs = (*shared.configs, *part.configs())
    if not configs:
        raise part.wrong("configs", [], "a list of YAML files, here or at the top of the file")
    flags = (*shared.flags, *part.flags(minutes))
    commands, seeds = part.commands(minutes) or shared.commands, part.seeds() or shared.seeds
    return Row(name, configs, flags, commands, seeds, minutes, shared.prepare)


def _prepare(part: _Part) -> Prepare:
    command = part.get("command", str, "the words of a command after `ladic`")
    makes = part.get("makes", str, "the file that the command makes")
    for key, value in (("command", command), ("makes", makes)):
        if not value:
            raise part.wrong(key, value, "given: a step has a 'command' and the file that it 'makes'")
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise part.wrong("command", command, "the words of a command, each quote closed") from error
    words = words[1:] if words[:1] == ["ladic"] else words
    if not words:
        raise part.wrong("command", command, "the words of a command after `ladic`, such as fit-space")
    return Prepare(tuple(words), Path(makes))
