"""Callbacks that jobs of these tests import."""

import os
import time

from lightning import Callback


class Pace(Callback):
    """Makes steps slow enough to be interrupted, and writes down which rank took which step where."""

    def __init__(self, seconds: float = 0.5) -> None:
        self.seconds = seconds

    def on_train_batch_end(self, trainer, *_):
        time.sleep(self.seconds)
        node, rank = os.environ.get("SLURMD_NODENAME", "-"), trainer.global_rank
        with open(os.path.join(trainer.default_root_dir, f"steps-{rank}.txt"), "a") as file:
            file.write(f"{trainer.global_step} {node}\n")
