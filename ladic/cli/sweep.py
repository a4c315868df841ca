"""``ladic sweep``: rows of configurations over seeds, one run after the other, and one table of their results.

What is finished is skipped and what was cut off goes on from its last checkpoint, so a stopped sweep is started again
with the same command. Each run has a folder, OUTPUT/ROW/seed-SEED, with the output of its commands in log.txt.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from ladic.cli.parser import LineParser
from ladic.errors import UsageError
from ladic.sweep import Run, Runner, SideBySide, Sweep, is_finished, read_sweep

GIVEN = ("only", "seeds", "output", "minutes", "flags")
"""Options that say which runs there are."""


def main(argv: list[str]) -> int:
    """Runs what is not finished, and gathers what is."""
    parser = LineParser("ladic sweep", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sweep", type=Path, help="a sweep file (YAML), see docs/howto/sweep.md")
    parser.add_argument("--only", help="rows to run, comma-separated (default: all)")
    parser.add_argument("--seeds", help="instead of the file's, comma-separated")
    parser.add_argument("--output", help="folder of the runs, instead of the file's")
    parser.add_argument("--minutes", type=float, help="of training, instead of the file's")
    parser.add_argument("--flags", help="for all rows beside the file's, in one word: '--NAME=VALUE --NAME=VALUE'")
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        help="trainings at a time on this machine, each on its share of the cores, which they exchange, and GPUs",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands, a run a line, and do nothing")
    parser.add_argument("--gather", action="store_true", help="only write the table of what is finished")
    parser.add_argument(
        "--array",
        nargs="?",
        const="",
        metavar="NUMBER",
        help="run this task alone: that of the SLURM array's task where no number is given; prints how to submit "
        "where there is no task either",
    )
    options = parser.parse_args(argv)
    if options.jobs < 1:
        raise UsageError(f"--jobs {options.jobs}: accepted are whole numbers from 1")
    given = {"--gather": options.gather, "--array": options.array is not None, "--jobs": options.jobs > 1}
    given["--dry-run"] = options.gather and options.dry_run
    one, *others = [name for name, value in given.items() if value] or [""]
    if others:
        raise UsageError(f"{one}: not together with {others[0]}; leave one of the two out")
    sweep = read_sweep(options.sweep, options.output, options.minutes, options.flags)
    runs = sweep.runs(_names(options.only), _seeds(options.seeds))
    words = shlex.join(["ladic", "sweep", *argv])
    if options.gather:
        return gathered(sweep, runs, words)
    if options.array is not None:
        number = options.array or os.environ.get("SLURM_ARRAY_TASK_ID", "")
        if not number:
            print("\n".join(submission(options, _tasks(runs))))
            return 0
        runs = _task(number, _tasks(runs))
    if options.dry_run:
        print("\n".join(lines_of(sweep, runs)))
        return 0
    # A task of SLURM's array that another process has, as one that outlived the last sitting, has nothing else to do.
    in_array = options.array is not None and "SLURM_ARRAY_TASK_ID" in os.environ
    runner = _runner(sweep, runs, in_array) if options.jobs == 1 else _side_by_side(options, sweep, runs)
    code = runner.run()
    if options.array is None and not runner.stopped:  # of an array, another task may be the last, so none gathers
        known = sweep.runs()
        gathered(sweep, known + [run for run in runs if run not in known], words)
    return code


def lines_of(sweep: Sweep, runs: Sequence[Run]) -> list[str]:
    """What a person would type: preparations, then a line for each run."""
    steps = [shlex.join(["ladic", *step.command]) for step in sweep.needed(runs)]
    return steps + [" && ".join(shlex.join(["ladic", *words]) for words in run.commands()) for run in runs]


def submission(options: Any, tasks: Sequence[Sequence[Run]]) -> list[str]:
    """How the runs are submitted as an array, and which task is which of them."""
    script = str(files("ladic.configs") / "slurm" / "sweep.sbatch")
    words = ["sbatch", f"--array=0-{len(tasks) - 1}", script, *_given(options)]
    gather = ["ladic", "sweep", *_given(options), "--gather"]
    lines = [f"  {number:>3}  {'; '.join(map(str, runs))}" for number, runs in enumerate(tasks)]
    more = "  (and before the script what your cluster wants of a task: --gpus=1, --cpus-per-task=8, --partition=…)"
    return [
        "submit:",
        f"  {shlex.join(words)}",
        more,
        "when all have ended:",
        f"  {shlex.join(gather)}",
        "tasks:",
        *lines,
    ]


def _given(options: Any) -> list[str]:
    """The words that say which runs there are."""
    values = {name: getattr(options, name) for name in GIVEN}
    return [str(options.sweep), *(f"--{name}={value}" for name, value in values.items() if value is not None)]


def gathered(sweep: Sweep, runs: Sequence[Run], words: str) -> int:
    """Writes the table of what is finished; 1 where something isn't.

    Args:
        sweep: whose table it is.
        runs: that belong into it.
        words: the command that makes it.
    """
    from ladic.sweep.record import alone
    from ladic.sweep.results import gather, no_figure, write_results

    with _writing(sweep), alone(sweep.output / ".gather.lock", lambda: None):  # who writes last has read last
        results, complaints = gather(runs)
        written = write_results(sweep, runs, results, words) if results else []
    for line in complaints:
        print(line, file=sys.stderr)
    if results:
        if (why := no_figure(sweep, results)) is not None:
            print(why, file=sys.stderr)
        print(f"wrote {', '.join(map(str, written))}: {len(results)} of {len(runs)} runs")
    return 1 if complaints else 0


@contextlib.contextmanager
def _writing(sweep: Sweep) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"sweep '{sweep.file}': output='{sweep.output}': can't be written to ({error.strerror or error}); "
            "accepted is a folder that can, made if need be"
        ) from error


def _try_to_write(sweep: Sweep) -> None:
    with _writing(sweep):
        sweep.output.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=sweep.output).close()


def _side_by_side(options: Any, sweep: Sweep, runs: Sequence[Run]) -> SideBySide:
    """Of those of these runs that aren't finished, each task in a sweep of its own, which looks them over."""
    import torch

    _try_to_write(sweep)
    pending = []
    for number, task in enumerate(_tasks(runs)):
        if all(map(is_finished, task)):
            print("\n".join(f"{run}: finished before" for run in task))
        else:
            pending.append(["sweep", *_given(options), f"--array={number}"])
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]
    return SideBySide(pending, options.jobs, gpus)


def _runner(sweep: Sweep, runs: Sequence[Run], patient: bool) -> Runner:
    """Of these runs, when they have been looked over."""
    from ladic.doctor.machine import devices, processor_name, processors

    _try_to_write(sweep)
    machine = f"{processor_name()}, {processors().text}, {devices()[0].text}"
    broken = {}
    for row in dict.fromkeys(run.row.name for run in runs):
        complaint = complaint_of(next(run for run in runs if run.row.name == row))
        if complaint is not None:
            broken[row] = complaint
    return Runner(sweep, runs, machine, broken, patient)


def complaint_of(run: Run) -> str | None:
    """What is wrong with the options of a run's row, so that it is told before hours of other rows; None if nothing."""
    from ladic.cli.lightning_cli import parse

    try:
        for name, *own in dict.fromkeys(run.row.commands):
            parse([*run.options(), *own], name)
        run.row.definition()
    except UsageError as error:
        return f"error: {error}"
    return None


def _tasks(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs task by task: those of the same weights, and of the same teacher, are one: all others wait for it."""
    tasks: dict[Path, list[Run]] = {}
    for run in runs:
        tasks.setdefault(run.first.folder, []).append(run)
    return list(tasks.values())


def _task(number: str, tasks: Sequence[list[Run]]) -> list[Run]:
    if not number.isdigit() or int(number) >= len(tasks):
        raise UsageError(f"--array {number}: accepted are 0 to {len(tasks) - 1}, the sweep's tasks")
    return tasks[int(number)]


def _names(text: str | None) -> list[str] | None:
    return None if text is None else text.split(",")


def _seeds(text: str | None) -> list[int] | None:
    if text is None:
        return None
    if not all(word.isdigit() for word in text.split(",")):
        raise UsageError(f"--seeds {text}: accepted are whole numbers from 0, comma-separated")
    return list(dict.fromkeys(int(word) for word in text.split(",")))
