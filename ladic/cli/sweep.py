"""``ladic sweep``: rows of configurations over seeds, one run after the other, and one table of their results.

What is finished is skipped and what was cut off goes on from its last checkpoint, so a stopped sweep is started again
with the same command. Each run has a folder, OUTPUT/ROW/seed-SEED, with the output of its commands in log.txt.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from ladic.cli.parser import LineParser
from ladic.errors import UsageError
from ladic.sweep import Row, Run, Runner, Sweep, read_sweep


def main(argv: list[str]) -> int:
    """Runs what is not finished, and gathers what is."""
    parser = LineParser("ladic sweep", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sweep", type=Path, help="a sweep file (YAML), see docs/howto/sweep.md")
    parser.add_argument("--only", help="rows to run, comma-separated (default: all)")
    parser.add_argument("--seeds", help="instead of the file's, comma-separated")
    parser.add_argument("--dry-run", action="store_true", help="print the commands, a run a line, and do nothing")
    parser.add_argument("--gather", action="store_true", help="only write the table of what is finished")
    parser.add_argument(
        "--array",
        nargs="?",
        const="",
        metavar="NUMBER",
        help="run this run alone: that of the SLURM array's task where no number is given; prints how to submit "
        "where there is no task either",
    )
    options = parser.parse_args(argv)
    sweep = read_sweep(options.sweep)
    runs = sweep.runs(_names(options.only), _seeds(options.seeds))
    if options.dry_run:
        print("\n".join(lines_of(sweep, runs)))
        return 0
    if options.gather:
        return gathered(sweep, runs)
    if options.array is not None:
        number = options.array or os.environ.get("SLURM_ARRAY_TASK_ID", "")
        if not number:
            print("\n".join(submission(options, runs)))
            return 0
        return _run(sweep, [_task(number, runs)])  # another task may be the last, so none gathers
    code = _run(sweep, runs)
    if code in (0, 1):
        gathered(sweep, runs)
    return code


def lines_of(sweep: Sweep, runs: Sequence[Run]) -> list[str]:
    """What a person would type: preparations, then a line for each run."""
    steps = [shlex.join(["ladic", *step.command]) for step in sweep.prepare]
    return steps + [" && ".join(shlex.join(["ladic", *words]) for words in run.commands()) for run in runs]


def submission(options: Any, runs: Sequence[Run]) -> list[str]:
    """How the runs are submitted as an array, and which task is which run."""
    script = str(files("ladic.configs") / "slurm" / "sweep.sbatch")
    words = ["sbatch", f"--array=0-{len(runs) - 1}", script, str(options.sweep)]
    words += [f"--{name}={value}" for name in ("only", "seeds") if (value := getattr(options, name)) is not None]
    gather = ["ladic", "sweep", *words[3:], "--gather"]
    tasks = [f"  {number:>3}  {run}" for number, run in enumerate(runs)]
    return ["submit:", f"  {shlex.join(words)}", "when all have ended:", f"  {shlex.join(gather)}", "tasks:", *tasks]


def gathered(sweep: Sweep, runs: Sequence[Run]) -> int:
    """Writes the table of what is finished; 1 where something isn't."""
    from ladic.sweep.results import gather, write_results

    results, left_out = gather(runs)
    for line in left_out:
        print(line, file=sys.stderr)
    if results:
        print(f"wrote {', '.join(map(str, write_results(sweep, runs, results)))}: {len(results)} of {len(runs)} runs")
    return 1 if left_out else 0


def _run(sweep: Sweep, runs: Sequence[Run]) -> int:
    from ladic.doctor.machine import devices, processor_name, processors

    sweep.output.mkdir(parents=True, exist_ok=True)
    machine = f"{processor_name()}, {processors().text}, {devices()[0].text}"
    broken = {}
    for row in dict.fromkeys(run.row.name for run in runs):
        complaint = complaint_of(next(run.row for run in runs if run.row.name == row))
        if complaint is not None:
            broken[row] = complaint
    return Runner(sweep, runs, machine, broken).run()


def complaint_of(row: Row) -> str | None:
    """What is wrong with a row's options, so that it is told before hours of other rows; None if nothing."""
    from ladic.cli.lightning_cli import parse

    try:
        parse([word for config in row.configs for word in ("-c", str(config))] + list(row.flags))
        row.definition()
    except UsageError as error:
        return f"error: {error}"
    return None


def _task(number: str, runs: Sequence[Run]) -> Run:
    if not number.isdigit() or int(number) >= len(runs):
        raise UsageError(f"--array {number}: accepted are 0 to {len(runs) - 1}, the sweep's runs")
    return runs[int(number)]


def _names(text: str | None) -> list[str] | None:
    return None if text is None else text.split(",")


def _seeds(text: str | None) -> list[int] | None:
    if text is None:
        return None
    if not all(word.isdigit() for word in text.split(",")):
        raise UsageError(f"--seeds {text}: accepted are whole numbers from 0, comma-separated")
    return list(dict.fromkeys(int(word) for word in text.split(",")))
