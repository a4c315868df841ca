"""A sweep of four tiny runs, which may be told to stop itself; imported by its tests and by its runs."""

import os
import signal
import time
from pathlib import Path

import yaml
from lightning import Callback
from tiny_run import tiny_config, write_config

from ladic.callbacks import Requeue


class StopParent(Callback):
    """At a step, once, asks the sweep to stop as a cluster would, and goes on when that has come back to the run."""

    def __init__(self, step: int, mark: str) -> None:
        self.step, self.mark = step, Path(mark)

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step != self.step or self.mark.exists():
            return
        self.mark.touch()
        os.kill(os.getppid(), signal.SIGTERM)
        requeue = next(callback for callback in trainer.callbacks if isinstance(callback, Requeue))
        deadline = time.monotonic() + 120
        while not requeue.asked and time.monotonic() < deadline:
            time.sleep(0.05)


def sweep_config(folder, mark=None):
    """Four steps, validated every two, scored by two families of metrics."""
    config = tiny_config(folder)
    trainer = config["trainer"]
    trainer |= {"max_steps": 4, "val_check_interval": 2, "check_val_every_n_epoch": None}
    trainer["callbacks"] = [
        {
            "class_path": "ladic.callbacks.CaptionEvaluation",
            "init_args": {"metrics": ["cider"], "test_metrics": ["bleu", "cider"]},
        },
        {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"save_last": True}},
    ]
    if mark is not None:
        stop = {"class_path": "tiny_sweep.StopParent", "init_args": {"step": 2, "mark": str(mark)}}
        trainer["callbacks"].insert(0, stop)
    return write_config(folder, config)


def sweep_file(folder, name="study.yaml", **changes):
    """Two rows with two seeds each, and counted n-grams that both may want."""
    content = {
        "output": str(folder / "out"),
        "seeds": [0, 1],
        "configs": ["tiny.yaml"],
        "prepare": [
            {
                "command": f"ladic fit-frequencies -c {folder}/tiny.yaml --output {folder}/out/counts.json.gz",
                "makes": f"{folder}/out/counts.json.gz",
            }
        ],
        "rows": {"ddim": None, "renoise": {"flags": ["--model.sampler=RenoiseSampler", "--model.sampler.num_steps=3"]}},
        **changes,
    }
    file = folder / name
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file
