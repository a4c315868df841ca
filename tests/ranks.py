"""Several ranks of a command on this machine, forked from the test so that none spends seconds on imports."""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch

from ladic.cli.main import main


class Ended(NamedTuple):
    """How a rank ended: exit code (negative for a signal), what it printed, and after how many seconds."""

    code: int
    text: str
    seconds: float


def run_ranks(words: list[object], folder: Path, world: int = 2, seconds: float = 240) -> list[Ended]:
    """Runs ``ladic WORD …`` on ``world`` ranks, as torchrun would start them; what isn't done in time is killed."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    outputs = [folder / f"rank{rank}.txt" for rank in range(world)]
    begun = time.monotonic()
    pids = [_fork([str(word) for word in words], rank, world, port, outputs[rank], seconds) for rank in range(world)]
    ended: dict[int, tuple[int, float]] = {}
    while len(ended) < world:
        for rank, pid in enumerate(pids):
            if rank in ended:
                continue
            if time.monotonic() - begun > seconds:
                os.kill(pid, signal.SIGKILL)
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                ended[rank] = os.waitstatus_to_exitcode(status), time.monotonic() - begun
        time.sleep(0.01)
    return [Ended(ended[rank][0], outputs[rank].read_text(), ended[rank][1]) for rank in range(world)]


def _fork(words: list[str], rank: int, world: int, port: int, output: Path, seconds: float) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world),
            "GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test",
            "GLOO_SOCKET_IFNAME": "lo",
        }  # fmt: skip
        torch.set_num_threads(1)  # threads of the parent's pools are not here
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout = sys.stderr = os.fdopen(file, "w", buffering=1)
        faulthandler.dump_traceback_later(seconds - 2, file=sys.stderr)  # where it waits, should it not end
        try:
            main(words)
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
    finally:
        os._exit(code)
