"""Reading a sweep file, every value of it checked."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ladic.cli.bases import bases_of
from ladic.errors import UsageError
from ladic.plugins import one_line, unknown
from ladic.sweep.definition import Prepare, Row, Sweep

COMMANDS = ("fit", "validate", "test", "predict")
KEYS = ("output", "seeds", "minutes", "checkpoint", "metric", "configs", "flags", "commands", "prepare", "rows")
ROW_KEYS = ("configs", "flags", "commands", "seeds", "minutes", "weights", "teacher")
PREPARE_KEYS = ("command", "makes")
OWNED = ("-c", "--config", "--seed_everything", "--ckpt_path", "--trainer.default_root_dir")
ENDS = ("max_time", "max_steps", "max_epochs", "min_steps", "min_epochs")
OWNED_BY_MINUTES = tuple(f"--trainer.{name}" for name in ENDS)


def read_sweep(file: Path, output: str | None = None, minutes: float | None = None, flags: str | None = None) -> Sweep:
    """A sweep file, every value of it checked.

    Configurations are named from the file's own folder, or as ``ladic configs`` lists them; all other paths start
    where the command is run.

    Args:
        file: YAML.
        output: folder of the runs, instead of the file's.
        minutes: of training, instead of the file's; a row that has its own keeps them.
        flags: for all rows beside the file's, as a shell splits them; a row's own come after them.

    Raises:
        UsageError: naming file, key and value, and what is accepted.
    """
    content = _content(file)
    if isinstance(content, dict):
        content |= {name: value for name, value in (("output", output), ("minutes", minutes)) if value is not None}
        if flags is not None:
            content["flags"] = [*(content.get("flags") or []), *_split(flags)]
    top = _Part(file, "", content, KEYS)
    rows = top.get("rows", dict, "names of rows, each with what it has of its own")
    if not rows:
        raise top.wrong("rows", rows, "at least one row")
    minutes = top.minutes()
    prepare = top.get("prepare", list, "a list of steps, each with 'command' and 'makes'") or []
    steps = tuple(_prepare(_Part(file, f"prepare.{place}.", step, PREPARE_KEYS)) for place, step in enumerate(prepare))
    shared = _shared(top, minutes, steps)
    built: dict[str, Row] = {}
    for name, values in rows.items():
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", str(name)):
            raise top.wrong("rows", name, "names of letters, digits, '_', '-' and '.', for folders are named so")
        built[str(name)] = _row(str(name), _Part(file, f"rows.{name}.", values or {}, ROW_KEYS), shared, built)
    output = top.get("output", str, "a folder for the runs")
    if not output:
        raise top.wrong("output", output, "a folder for the runs")
    metric = top.get("metric", str, "a score of scores_test.json, such as CIDEr-D") or "CIDEr-D"
    return Sweep(file, Path(output), metric, steps, tuple(built.values()))


def _content(file: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"sweep '{file}': {error.strerror or error}; give a YAML file with 'rows:'") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"sweep '{file}': not YAML ({one_line(error)})") from error


def _split(flags: str) -> list[str]:
    try:
        return shlex.split(flags)
    except ValueError as error:
        raise UsageError(f"--flags {flags}: {error}; accepted are flags as --NAME=VALUE, each quote closed") from error


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

    def best(self) -> bool:
        """Whether the best checkpoint is tested, and not the last."""
        accepted = "best or last, of a run's checkpoints"
        value = self.get("checkpoint", str, accepted) or "last"
        if value not in ("best", "last"):
            raise self.wrong("checkpoint", value, accepted)
        return value == "best"

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
    return Row("", top.configs(), top.flags(minutes), commands, top.seeds() or (0,), minutes, steps, best=top.best())


def _row(name: str, part: _Part, shared: Row, above: Mapping[str, Row]) -> Row:
    """A row, where ``above`` has those that the file names before it."""
    minutes = part.minutes() or shared.minutes
    if (other := part.get("weights", str, "the name of a row above that trains")) is not None:
        return _tested(name, part, _trained(part, "weights", other, above))
    configs = (*shared.configs, *part.configs())
    if not configs:
        raise part.wrong("configs", [], "a list of YAML files, here or at the top of the file")
    flags = (*shared.flags, *part.flags(minutes))
    commands, seeds = part.commands(minutes) or shared.commands, part.seeds() or shared.seeds
    teacher = None
    if (other := part.get("teacher", str, "the name of a row above that trains")) is not None:
        teacher = _trained(part, "teacher", other, above)
        if missing := set(seeds) - set(teacher.seeds):
            raise part.wrong("seeds", list(seeds), f"those of its teacher; {other} has no {min(missing)}")
    return Row(name, configs, flags, commands, seeds, minutes, shared.prepare, teacher=teacher, best=shared.best)


def _trained(part: _Part, key: str, name: str, above: Mapping[str, Row]) -> Row:
    """The row whose weights are asked for."""
    able = [row.name for row in above.values() if any(command[0] == "fit" for command in row.commands)]
    if name not in able:
        raise part.wrong(key, name, f"a row above that trains: {', '.join(able) or 'there is none'}")
    return above[name]


def _tested(name: str, part: _Part, trained: Row) -> Row:
    """A row that has another's configurations, flags and seeds, then its own, and only tests."""
    for key in ("seeds", "minutes", "teacher"):
        if key in part.values:
            raise part.wrong(key, part.values[key], f"nothing: they are those of {trained.name}, which trains")
    own = part.commands(trained.minutes)
    if any(command[0] == "fit" for command in own):
        raise part.wrong("commands", part.values["commands"], f"no fit: {trained.name} trains")
    commands = own or tuple(command for command in trained.commands if command[0] != "fit")
    if not commands:
        raise part.wrong("commands", part.values.get("commands"), f"what is to be done: {trained.name} trains alone")
    configs, flags = (*trained.configs, *part.configs()), (*trained.flags, *part.flags(trained.minutes))
    return replace(trained, name=name, configs=configs, flags=flags, commands=commands, weights=trained)


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
