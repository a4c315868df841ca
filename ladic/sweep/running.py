"""Running a sweep: one command after the other, each in a process of its own with a log of its own."""

from __future__ import annotations

import datetime
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen, TimeoutExpired

from ladic.errors import UsageError
from ladic.plugins import one_line
from ladic.signals import NotedSignals
from ladic.slurm import requeue, slurm_job, was_preempted
from ladic.sweep.commit import commit
from ladic.sweep.definition import Prepare, Run, Sweep
from ladic.sweep.preparation import found, lock_file, mark_file, write_mark
from ladic.sweep.record import Done, Record, alone, is_busy, is_finished, lock_of, new_record, read_record
from ladic.sweep.screen import Screen

LADIC = (sys.executable, "-P", "-m", "ladic")
"""The command ``ladic`` of this very installation, whatever lies in the working directory."""

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Failed(Exception):
    """A command that ended badly; the text says how, and where its log is."""


class Asked(Exception):
    """The sweep was asked to stop, and its command has left."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Runner:
    """Runs what of a sweep is not finished.

    A command is asked to leave by SIGTERM, on which ``ladic fit`` saves and goes, in a session of its own, so that
    Ctrl-C reaches the sweep alone. In a SLURM job it doesn't learn of the job: putting it back into the queue is for
    the sweep.

    Args:
        sweep: the file.
        runs: of it, in order.
        machine: what they run on, for their records.
        broken: names of rows whose options are wrong, with the complaint.
        patient: whether it waits for another process that is at a run, instead of passing over it.
    """

    def __init__(
        self,
        sweep: Sweep,
        runs: Sequence[Run],
        machine: str,
        broken: dict[str, str] | None = None,
        patient: bool = False,
    ) -> None:
        self.sweep, self.runs, self.machine, self.patient = sweep, runs, machine, patient
        self.broken = broken or {}
        self.known: list[float] = []  # seconds of whole runs
        self.screen = Screen()
        self.stopped = False  # before its end
        self._place = ""
        self._left = 0  # runs that follow
        self._lock = -1  # of what is at work
        self._waits = False  # for another process

    def run(self) -> int:
        """The exit code: 1 if a run failed, 128 and the signal if one ended the sweep."""
        failures, pending = 0, [run.row.name not in self.broken and not is_finished(run) for run in self.runs]
        with NotedSignals(STOPPING) as noted:
            try:
                self._prepare(noted)
                for number, run in enumerate(self.runs):
                    self._place = f"[{number + 1}/{len(self.runs)}] {run}"
                    self._left = sum(pending[number + 1 :])
                    failures += not self._finish(run, noted)
            except (Failed, UsageError, OSError) as error:  # of a preparation: nothing can begin
                self._tell_failure(one_line(error))
                return 1
            except Asked as asked:
                self.stopped = True
                return stopped(self.screen, f"{self._place}: ", asked.number)
        return 1 if failures else 0

    # One run.

    def _finish(self, run: Run, noted: NotedSignals) -> bool:
        """Whether the run is finished, now or before, or in the hands of another process."""
        if run.row.name in self.broken:
            return self._tell_failure(self.broken[run.row.name])
        try:
            with alone(lock_of(run), partial(self._wait_turn, noted) if self.patient else None) as lock:
                if lock is None:
                    self.screen.say(f"{self._place}: another process is at it")
                    return True
                self._lock, self._waits = lock, False
                awaited = [other for other in run.before() if not _is_trained(other) and is_busy(other)]
                if awaited:
                    self.screen.say(f"{self._place}: passed over, another process is at {awaited[0]}")
                    return True
                record = read_record(run) or new_record(run)
                if record.finished(run):
                    self.screen.say(f"{self._place}: finished before")
                else:
                    self._go_on(run, record, noted)
                self.known.append(sum(each.seconds for each in record.done))
                return True
        except (Failed, UsageError, OSError) as error:
            return self._tell_failure(one_line(error))

    def _go_on(self, run: Run, record: Record, noted: NotedSignals) -> None:
        for other in run.before():
            if not _is_trained(other):
                has = "is its teacher" if other == run.teacher else "has its weights"
                raise Failed(f"{other.row.name} {has} and is not trained yet; run that row first")
        record.write(run.folder)
        begun = time.monotonic()
        self.screen.say(f"{self._place}: begins{self._rest(0)}")
        for words in run.commands()[len(record.done) :]:
            of = commit()  # now: by the end, somebody may have gone on working in the checkout
            seconds = self._execute(words, run.folder / "log.txt", noted, begun)
            today = datetime.date.today().isoformat()
            record.done.append(Done(words[0], round(seconds, 1), self.machine, of, today))
            record.write(run.folder)
        took = datetime.timedelta(seconds=round(time.monotonic() - begun))
        self.screen.say(f"{self._place}: finished in {took}")

    def _tell_failure(self, what: str) -> bool:
        self.screen.say(f"{self._place}: {what}", sys.stderr)
        return False

    # What is needed by several.

    def _prepare(self, noted: NotedSignals) -> None:
        for step in self.sweep.needed([run for run in self.runs if run.row.name not in self.broken]):
            number = self.sweep.prepare.index(step)
            self._place, self._left = f"prepare {step.command[0]}", len(self.runs)
            there = found(step)
            if there is None:
                with alone(lock_file(step), lambda: self._wait_turn(noted)) as lock:
                    assert lock is not None
                    self._lock, self._waits = lock, False
                    there = found(step)  # the tasks of an array begin together: another may have made it
                    if there is None:
                        self._make(step, self.sweep.output / f"prepare-{number}.txt", noted)
            if there is not None:
                self.screen.say(f"{self._place}: {there}")

    def _wait_turn(self, noted: NotedSignals) -> None:
        """Says once that another sweep is at the step."""
        if noted.numbers:
            raise Asked(noted.numbers[0])
        if not self._waits:
            self.screen.say(f"{self._place}: waits for another process that is at it")
            self._waits = True

    def _make(self, step: Prepare, log: Path, noted: NotedSignals) -> None:
        write_mark(step, done=False)
        self.screen.say(f"{self._place}: begins")
        try:
            took = self._execute(list(step.command), log, noted, time.monotonic())
        finally:
            if not step.makes.exists():
                mark_file(step).unlink()  # what is put there by hand is no leftover
        if not step.makes.exists():
            raise Failed(f"it made no '{step.makes}'; 'makes' names what it writes; log: {log}")
        write_mark(step, done=True)
        self.screen.say(f"{self._place}: finished in {datetime.timedelta(seconds=round(took))}")

    # One command.

    def _execute(self, words: list[str], log: Path, noted: NotedSignals, begun: float) -> float:
        """Runs a command to its end; the seconds it took.

        Raises:
            Failed: if it ended badly.
            Asked: if the sweep was asked to stop, when the command has left.
        """
        if noted.numbers:
            raise Asked(noted.numbers[0])
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        log.parent.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        with log.open("ab") as lines:
            lines.write(f"$ ladic {shlex.join(words)}\n".encode())
            lines.flush()
            child = Popen(
                [*LADIC, *words],
                stdin=DEVNULL,
                stdout=lines,
                stderr=STDOUT,
                env=environment,
                start_new_session=True,
                pass_fds=(self._lock,),  # what outlives a sweep that was killed keeps its folder
            )
            try:
                code = self._wait(child, words[0], noted, begun)
            finally:
                if child.poll() is None:  # whatever went wrong here, nothing runs on unseen
                    os.killpg(child.pid, signal.SIGKILL)
                    child.wait()
        if -code in STOPPING:  # a signal to the whole job may reach the command first
            time.sleep(1)
        if noted.numbers:
            raise Asked(noted.numbers[0])
        if code:
            raise Failed(f"{words[0]} {_ending(code)}: {last_error(log)}; log: {log}")
        return time.monotonic() - started

    def _wait(self, child: Popen[bytes], name: str, noted: NotedSignals, begun: float) -> int:
        asked = 0
        while True:
            try:
                return child.wait(timeout=0.2)
            except TimeoutExpired:
                elapsed = time.monotonic() - begun
            if len(noted.numbers) > asked:
                if asked and noted.numbers[-1] == signal.SIGINT:
                    os.killpg(child.pid, signal.SIGKILL)
                elif not asked:
                    child.send_signal(signal.SIGTERM)
                    self.screen.say(f"{self._place}: {name} saves and leaves; Ctrl-C kills it at once")
                asked = len(noted.numbers)
            elif not asked:
                so_far = datetime.timedelta(seconds=int(elapsed))
                self.screen.move(f"{self._place}: {name}  {so_far}{self._rest(elapsed)}")

    # What is to come.

    def _rest(self, elapsed: float) -> str:
        """What is expected to follow, by the runs whose length is known."""
        minutes = self.runs[0].row.minutes
        if self.known:
            mean = sum(self.known) / len(self.known)
        elif minutes is not None:
            mean = 60 * minutes  # of training alone, the least that a run takes
        else:
            return ""
        rest = max(0.0, mean - elapsed) + mean * self._left
        return f", about {datetime.timedelta(seconds=round(rest))} to go"


def stopped(screen: Screen, place: str, number: int) -> int:
    """Says that the sweep was stopped, and where; in a SLURM job that is to go on, puts it back into the queue.

    Args:
        screen: to say it on.
        place: what was at work, as the line begins.
        number: of the signal.

    Returns:
        The exit code.
    """
    job = slurm_job()
    if job is not None and (number == signal.SIGUSR1 or was_preempted(job)):
        screen.say(f"{place}stopped; requeueing job {job}")
        requeue(job)
        return 0
    screen.say(f"{place}stopped; the same command goes on from here")
    return 128 + number


def _is_trained(run: Run) -> bool:
    record = read_record(run)
    return record is not None and any(each.command == "fit" for each in record.done)


def last_error(log: Path) -> str:
    """What a log says last of what went wrong: its last line that begins with "error:", or the last line."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    own = lines[max(at for at, line in enumerate(lines) if line.startswith("$ ladic ")) :]
    told = [line for line in own if line.startswith("error: ")]
    return (told or own)[-1]


def _ending(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
