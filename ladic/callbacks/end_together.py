"""When one process of a run fails, the others end too, and the first error is the one that is read."""

from __future__ import annotations

import re
import signal

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from ladic.callbacks.requeue import Stopped

LOADER = re.compile(r"DataLoader worker \(.*?\) (?P<how>[^.]*)")
PEER = re.compile(
    r"closed by peer|reset by peer|Broken pipe|gloo/transport|remote process exiting|ncclRemoteError", re.I
)


class EndTogether(Callback):
    """Kills the processes that this one has started when it fails.

    They may be waiting for it in a collective call, where no other signal reaches them. That it ends when one of them
    fails is Lightning's part; between nodes it is the launcher's (``srun --kill-on-bad-exit=1``, torchrun).
    """

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        launcher = trainer.strategy.launcher
        if isinstance(launcher, _SubprocessScriptLauncher) and not isinstance(exception, Stopped | KeyboardInterrupt):
            launcher.kill(signal.SIGKILL)


def lost_process(error: BaseException) -> str | None:
    """In one line what it means that another process of the run has died; None for any other error.

    Example:
        >>> lost_process(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "))[:75]
        'data.num_workers: a process that loads pictures is killed by signal: Killed'
    """
    text = " ".join(str(error).split())
    if match := LOADER.search(text):
        return (
            f"data.num_workers: a process that loads pictures {match['how'].strip()}; it may have run out of memory: "
            "give fewer, or 0 to load in the main process, and go on with --ckpt_path=auto"
        )
    if PEER.search(text):
        return (
            f"another process of this run ended, its error is the one to read ({text[:120]}); "
            "go on with --ckpt_path=auto"
        )
    return None
