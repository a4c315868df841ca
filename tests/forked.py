"""``Popen`` for commands of ``ladic`` that forks the test instead, so that none spends five seconds on imports."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from subprocess import TimeoutExpired
from typing import IO, Any

import torch

from ladic.cli.main import main


class ForkedLadic:
    """What a sweep asks of a process, for ``[…, "-m", "ladic", WORD, …]``."""

    def __init__(self, words: Sequence[str], *, stdout: IO[bytes], env: dict[str, str], **_: Any) -> None:
        self.words, self.returncode = list(words), None
        self.pid = os.fork()
        if not self.pid:
            self._run(self.words[self.words.index("ladic") + 1 :], stdout.fileno(), env)

    def _run(self, words: list[str], output: int, env: dict[str, str]) -> None:
        code: object = 1
        try:
            os.setsid()
            for number in (signal.SIGTERM, signal.SIGUSR1):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.environ.clear()
            os.environ |= env
            sys.path[:0] = [place for place in env.get("PYTHONPATH", "").split(os.pathsep) if place]
            torch.set_num_threads(1)  # threads of the parent's pools are not here
            os.dup2(output, 1)
            os.dup2(output, 2)
            sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1, closefd=False)
            try:
                main(words)
                code = 0
            except SystemExit as stop:
                code = stop.code
            except BaseException:
                import traceback

                traceback.print_exc()
            sys.stdout.flush()
        finally:
            os._exit(code if isinstance(code, int) else 1)

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        if self.returncode is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if done else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it has ended."""
        end = time.monotonic() + (600 if timeout is None else timeout)
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise TimeoutExpired(self.words, timeout or 600)
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        """Sends it, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)
