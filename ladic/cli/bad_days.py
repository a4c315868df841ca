"""Options of ``ladic fit`` for many nodes and bad days, and the parts that every trainer of ours gets."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Literal

from lightning import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint, Timer
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.plugins.io import CheckpointIO

from ladic.callbacks import (
    BatchPlan,
    EndTogether,
    FiniteLoss,
    ProgressLines,
    Requeue,
    SameFolder,
    SampleLogger,
    TrainingClock,
)
from ladic.callbacks.batch_plan import ScaleRule
from ladic.checkpoint_io import AtomicCheckpointIO
from ladic.cli.loggers import LogTo, chosen_loggers
from ladic.doctor.cluster import slurm_environment
from ladic.errors import UsageError
from ladic.slurm import EarlySignals


def add_options(parser: LightningArgumentParser) -> None:
    """Adds the options; a configuration may set them at its top level."""
    parser.add_argument(
        "--scale_lr",
        "--scale-lr",
        type=ScaleRule,
        default="none",
        help="multiply learning rates by global batch / base_batch_size, or by its root",
    )
    parser.add_argument(
        "--base_batch_size",
        type=int | None,
        default=None,
        help="global batch that the learning rate is meant for; data.batch_size if null",
    )
    parser.add_argument(
        "--nan",
        type=Literal["stop", "skip"],
        default="stop",
        help="what to do at a step whose loss or gradient is not finite",
    )
    parser.add_argument(
        "--log_to",
        "--log-to",
        type=LogTo | list[LogTo] | None,
        default=None,
        help="log here beside metrics.csv; null is tensorboard where trainer.logger names none, [] is CSV alone",
    )
    parser.add_argument(
        "--checkpoint_minutes",
        type=float | None,
        default=10.0,
        help="minutes between two saves of resume.ckpt, from which --ckpt_path=auto goes on; null for signals only",
    )


def prepared(
    instantiate: Callable[..., Trainer], option: Callable[..., Any], early: EarlySignals | None = None, **kwargs: Any
) -> Trainer:
    """A trainer with atomic checkpoints, and with our callbacks unless the user's configuration has its own.

    Args:
        instantiate: makes the trainer from its configuration and these extras.
        option: ``option(config, name)`` of the parsed configuration, bound to the CLI.
        early: signals since the command began, for ``Requeue``.
        kwargs: other extras.

    Raises:
        UsageError: for sharding by other means than ours, or with a precision that it can't have.
    """
    cli: Any = instantiate.__self__  # type: ignore[attr-defined]
    config = cli.config_init
    given = option(config, "trainer").get("plugins") or []
    plugins = list(given) if isinstance(given, list) else [given]
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        plugins.append(AtomicCheckpointIO())
    # Under torchrun inside a job the ranks are torchrun's, which Lightning sees by itself.
    tasks = SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()
    if tasks and not any(isinstance(plugin, SLURMEnvironment) for plugin in plugins):
        plugins.append(slurm_environment())  # `Requeue` saves at a step boundary instead
    root = option(config, "trainer").get("default_root_dir")
    loggers = chosen_loggers(option(config, "trainer").get("logger"), option(config, "log_to"), root)
    if option(config, "trainer").get("enable_progress_bar") is None:  # a bar in a log file is a heap of characters
        kwargs["enable_progress_bar"] = sys.stdout.isatty()
    if str(option(config, "trainer").get("strategy")).startswith("fsdp"):
        kwargs["strategy"] = _sharded(option(config, "trainer"))
    own = option(config, "trainer").get("callbacks") or []
    own = list(own) if isinstance(own, list) else [own]  # a copy: the trainer adds to the list
    trainer = instantiate(**kwargs, plugins=plugins, logger=loggers)
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    extras: list[Callback] = [
        TrainingClock(_limit(callbacks, own)),
        BatchPlan(option(config, "scale_lr"), option(config, "base_batch_size")),
        FiniteLoss(option(config, "nan")),
        Requeue(option(config, "checkpoint_minutes")),
        ProgressLines(),
        EndTogether(),
        SameFolder(),
    ]
    if any(not isinstance(logger, CSVLogger) for logger in trainer.loggers):
        extras.append(SampleLogger())
    callbacks += [extra for extra in extras if not any(type(one) is type(extra) for one in callbacks)]
    # Stable: what changes weights at the end of a step comes before what saves them.
    callbacks.sort(key=lambda one: (isinstance(one, Checkpoint), isinstance(one, Requeue)))
    for callback in callbacks:
        if isinstance(callback, Requeue):
            callback.early = early
    # Lightning's own SIGTERM handler broadcasts from inside the handler, in whatever collective the rank is just then,
    # and ends the run with 0 and no checkpoint. `Requeue` is the one that listens.
    trainer._signal_connector.register_signal_handlers = _no_handlers  # type: ignore[method-assign]
    return trainer


def _limit(callbacks: list[Callback], own: list[Any]) -> float | None:
    """Minutes of ``trainer.max_time``, in place of the timer that Lightning made for it; the user's own ones stay."""
    for timer in callbacks:
        if isinstance(timer, Timer) and not any(timer is one or isinstance(one, TrainingClock) for one in own):
            callbacks.remove(timer)
            seconds = timer.time_remaining()
            assert seconds is not None  # of a timer without a start: all of its time
            return seconds / 60
    return None


def _no_handlers() -> None:
    """Instead of Lightning's; a function by name, because strategies that spawn pickle the trainer."""


def _sharded(trainer: Any) -> Any:
    """The strategy behind ``--trainer.strategy=fsdp``."""
    from ladic.sharding import ShardedStrategy

    if trainer.strategy != "fsdp":
        raise UsageError(f"trainer.strategy='{trainer.strategy}': there is no such sharding; accepted is 'fsdp'")
    if str(trainer.precision) in ("16", "16-mixed"):
        raise UsageError(f"trainer.precision={trainer.precision}: not with strategy=fsdp; use bf16-mixed or 32-true")
    return ShardedStrategy()
