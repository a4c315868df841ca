"""Tasks of a sweep side by side on one machine, each in a process of its own on its share of the cores and GPUs.

Trainings that share all cores spin against each other; on cores of their own they don't. Cores are not equally fast,
and not for long (a neighbour on the host, the other thread of a core), so the tasks exchange their shares every `TURN`
seconds: equal minutes are then equal means, whichever row began where.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from typing import IO, TextIO, TypeVar

from ladic.signals import NotedSignals
from ladic.sweep.running import LADIC, STOPPING, stopped
from ladic.sweep.screen import Screen

TURN = 20.0
"""Seconds after which the tasks exchange their cores."""

Thing = TypeVar("Thing")


@dataclass
class Task:
    """A part of the sweep that is at work.

    Attributes:
        process: of it.
        place: its share, from 0.
        readers: threads that pass on what it says.
    """

    process: Popen[str]
    place: int
    readers: list[threading.Thread]


class SideBySide:
    """Runs commands, so many at a time.

    A signal goes on to all of them, and no further one begins.

    Args:
        tasks: words after ``ladic`` of each, in order.
        jobs: how many run at a time.
        gpus: names of GPUs as CUDA_VISIBLE_DEVICES has them; none leaves that variable as it is.
    """

    def __init__(self, tasks: Sequence[Sequence[str]], jobs: int, gpus: Sequence[str] = ()) -> None:
        self.tasks, self.jobs, self.gpus = tasks, jobs, gpus
        self.cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self.screen = Screen()
        self.stopped = False  # before its end

    def run(self) -> int:
        """The exit code: 1 if a task failed, 128 and the signal if one ended the sweep."""
        begun = turned = time.monotonic()
        waiting, at_work, codes, turn, passed_on = list(enumerate(self.tasks)), list[Task](), list[int](), 0, 0
        with NotedSignals(STOPPING) as noted:
            try:
                while at_work or (waiting and not noted.numbers):
                    while waiting and len(at_work) < self.jobs and not noted.numbers:
                        free = min(set(range(self.jobs)) - {task.place for task in at_work})
                        at_work.append(self._begin(*waiting.pop(0), free, turn))
                    for number in noted.numbers[passed_on:]:
                        for task in at_work:
                            task.process.send_signal(number)
                    passed_on = len(noted.numbers)
                    if time.monotonic() - turned >= TURN:
                        turn, turned = turn + 1, time.monotonic()
                        for task in at_work:
                            give(task.process.pid, share(self.cores, self.jobs, task.place + turn))
                    ended = [task for task in at_work if _has_ended(task)]
                    codes += [task.process.returncode for task in ended]
                    at_work = [task for task in at_work if task not in ended]
                    elapsed = datetime.timedelta(seconds=int(time.monotonic() - begun))
                    self.screen.move(f"{len(codes)}/{len(self.tasks)} tasks ended, {len(at_work)} at work  {elapsed}")
            finally:
                for task in at_work:  # whatever went wrong here, nothing runs on unseen
                    task.process.terminate()
                    task.process.wait()
        if noted.numbers:
            self.stopped = True
            return stopped(self.screen, "", noted.numbers[0])
        return 1 if any(codes) else 0

    def _begin(self, number: int, words: Sequence[str], place: int, turn: int) -> Task:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        cores = share(self.cores, self.jobs, place + turn)
        # The smallest share's: a task whose share is one core larger for a turn has that core idle.
        environment["OMP_NUM_THREADS"] = str(max(1, (len(self.cores) or os.cpu_count() or 1) // self.jobs))
        if self.gpus:  # as many for each, so that rows of one table have batches of one size
            equal = self.gpus[: len(self.gpus) // self.jobs * self.jobs] or self.gpus
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(share(equal, self.jobs, place))
        command = [*LADIC, *words]
        process = Popen(
            command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, text=True, env=environment, start_new_session=True
        )
        give(process.pid, cores)
        assert process.stdout is not None
        assert process.stderr is not None
        told = f"{number + 1}/{len(self.tasks)}"
        readers = [
            threading.Thread(target=self._pass_on, args=(told, lines, to), daemon=True)
            for lines, to in ((process.stdout, sys.stdout), (process.stderr, sys.stderr))
        ]
        for reader in readers:
            reader.start()
        return Task(process, place, readers)

    def _pass_on(self, told: str, lines: IO[str], to: TextIO) -> None:
        with lines:
            for line in lines:
                self.screen.say(f"{told} {line.rstrip()}", to)


def _has_ended(task: Task) -> bool:
    """Whether it has, after a moment; all it said is then passed on."""
    try:
        task.process.wait(timeout=0.1)
    except TimeoutExpired:
        return False
    for reader in task.readers:
        reader.join()
    return True


def share(things: Sequence[Thing], of: int, number: int) -> list[Thing]:
    """One of so many equal shares, where there are enough things; of fewer, one in turn.

    Example:
        >>> share("abcd", 2, 0), share("abcd", 2, 1), share("abcd", 2, 2)
        (['a', 'c'], ['b', 'd'], ['a', 'c'])
        >>> share("ab", 3, 1), share("ab", 3, 2), share("", 3, 2)
        (['b'], ['a'], [])
    """
    if not things:
        return []
    if len(things) < of:
        return [things[number % of % len(things)]]
    return list(things[number % of :: of])


def give(process: int, cores: Sequence[int]) -> None:
    """Has a process, every thread of it and all processes that it began run on these cores; without any, changes
    nothing. What ends meanwhile is passed over.
    """
    if not cores:
        return
    for thread in _listed(Path(f"/proc/{process}/task")):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(int(thread.name), cores)
        with contextlib.suppress(OSError):
            for child in (thread / "children").read_text().split():
                give(int(child), cores)


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
