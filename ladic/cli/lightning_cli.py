"""``ladic fit | validate | test | predict``: Lightning's CLI over our captioners and datamodules."""

from __future__ import annotations

import errno
import logging
import re
import sys
import warnings
from typing import Any, NoReturn

from jsonargparse import Namespace
from lightning import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from ladic.callbacks import CaptionWriter  # and all others: --trainer.callbacks+=CaptionEvaluation
from ladic.callbacks.end_together import lost_process
from ladic.captioners import Captioner, LatentDiffusionCaptioner
from ladic.checkpoints import find_checkpoint, newest_checkpoint, read_checkpoint
from ladic.cli.bad_days import add_options, prepared
from ladic.cli.bases import dropped, with_bases
from ladic.cli.captioner_choice import names_captioner, with_captioner
from ladic.cli.explain import explain
from ladic.cli.run_folders import with_runs
from ladic.cli.trainer import PrecisionTrainer
from ladic.cli.yaml_files import check_configs
from ladic.datamodules import CaptionDataModule
from ladic.errors import UsageError
from ladic.plugins import load_plugins, one_line
from ladic.slurm import EarlySignals

SUBCOMMANDS = ("fit", "validate", "test", "predict")


class OneLineParser(LightningArgumentParser):
    """Complaints are one line with the nearest name, instead of sixty lines of usage."""

    def parse_args(self, args: Any = None, *more: Any, **options: Any) -> Any:
        # jsonargparse hands an argument of a component's component on as text, in which null has become None, to a
        # parser that it makes for the component. What the user typed is left alone.
        if getattr(self, "_inner_parser", False) and isinstance(args, list) and len(args) == 1:
            name, equals, value = str(args[0]).partition("=")
            if equals and value == "None":
                args = [f"{name}=null"]
        return super().parse_args(args, *more, **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise UsageError(explain(message, self)) from ex


class CaptionerCLI(LightningCLI):
    """Lightning's CLI with our parser; ``parse_only`` stops before anything is built."""

    parse_only = False
    early: EarlySignals | None = None

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        parser = OneLineParser(**kwargs)
        parser.add_argument(
            "-c", "--config", action=self._config_action(), help="a YAML file, or a run's folder; may be given again"
        )
        return parser

    @staticmethod
    def _config_action() -> Any:
        from jsonargparse import ActionConfigFile

        return ActionConfigFile

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.set_defaults({"trainer.logger": True})
        parser.add_argument("--base", type=dropped, default=None, help="in a YAML file: the one below it, by its path")
        add_options(parser)

    def before_instantiate_classes(self) -> None:
        if self.parse_only:
            raise _Parsed(self.config)

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except ValueError as error:
            # Where a component is optional, its constructor's complaint comes wrapped in one about unions.
            cause = error.__cause__
            while cause is not None and not isinstance(cause, UsageError):
                cause = cause.__cause__
            if isinstance(error, UsageError):
                raise
            if cause is None:
                cause = _refusal(error)
            if cause is None:
                raise
            raise cause from None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        try:
            trainer = prepared(super().instantiate_trainer, self._get, self.early, **kwargs)
        except UsageError:
            raise
        except ValueError as error:
            raise UsageError(f"trainer: {one_line(error)}") from error
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        if self.subcommand == "predict" and not any(isinstance(one, CaptionWriter) for one in callbacks):
            callbacks.append(CaptionWriter())
        return trainer

    def before_fit(self) -> None:
        """``--ckpt_path=auto`` goes on from the run's newest whole checkpoint, or begins where there is none."""
        if self.config_init["fit"].get("ckpt_path") == "auto":
            found = newest_checkpoint(self.trainer.default_root_dir)
            self.config_init["fit"]["ckpt_path"] = None if found is None else str(found)


def _refusal(error: ValueError) -> UsageError | None:
    """A component's complaint among the lines of one about unions: jsonargparse 4.41 keeps no more of it."""
    told = re.findall(r"^\s*- (?!Expected |Not a |Does not |a )(.+)$", str(error), re.M)
    return UsageError(told[0]) if told else None


class _Parsed(Exception):
    """Carries the parsed configuration out of Lightning's constructor."""

    def __init__(self, config: Namespace) -> None:
        self.config = config


def run(argv: list[str], early: EarlySignals | None = None) -> None:
    """Parses and runs one of Lightning's subcommands.

    Args:
        argv: the subcommand and its words.
        early: signals since the command began.

    Raises:
        UsageError: for anything the user can mend.
    """
    argv, settings = _prepared(argv)
    argv = _locate_checkpoint(argv)

    class Running(CaptionerCLI):
        @staticmethod
        def subcommands() -> dict[str, set[str]]:
            """Only the one asked for: Lightning would build the parsers of all four, a third of a short run's time."""
            return {argv[0]: LightningCLI.subcommands()[argv[0]]}

        def before_instantiate_classes(self) -> None:
            super().before_instantiate_classes()
            given = self._get(self.config, "ckpt_path") or "--ckpt_path=null" in argv
            if argv[0] != "fit" and not given:
                raise UsageError(
                    f"--ckpt_path: not given, and `ladic {argv[0]}` would caption with random weights; add "
                    "--ckpt_path=RUN (a run's folder, or a .ckpt file), or --ckpt_path=null where the model needs none"
                )

    Running.early = early
    try:
        Running(args=argv, **settings)
    except FileNotFoundError as error:
        raise UsageError(f"{error.filename or error}: no such file") from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f"'{error.filename}': " if error.filename else ""
        raise UsageError(
            f"{where}no space left on the disk; checkpoints saved before are intact: make room and go on with "
            "--ckpt_path=auto"
        ) from error
    except MisconfigurationException as error:
        raise UsageError(f"trainer: {one_line(error)}") from error
    except RuntimeError as error:
        told = lost_process(error)
        if told is None:
            raise
        raise UsageError(told) from error


def parse(argv: list[str], subcommand: str | None = None) -> Namespace:
    """The configuration of a run (``-c FILE`` and flags) with every default filled in; nothing is built.

    Args:
        argv: the words.
        subcommand: one of ``SUBCOMMANDS``, whose own flags are accepted too, and whose configuration lies below its
            name; without, what they have in common.

    Raises:
        UsageError: for anything the user can mend.

    Example:
        ``parse(["-c", "configs/demo.yaml", "--data.batch_size=8"]).data.init_args.batch_size`` is 8.
    """
    argv, settings = _prepared(argv if subcommand is None else [subcommand, *argv])

    class Parsing(CaptionerCLI):
        parse_only = True

        @staticmethod
        def subcommands() -> dict[str, set[str]]:
            return {name: own for name, own in LightningCLI.subcommands().items() if name == subcommand}

    try:
        Parsing(args=argv, run=subcommand is not None, **settings)
    except _Parsed as parsed:
        return parsed.config
    raise AssertionError("the parser built its classes")


def built(argv: list[str]) -> CaptionerCLI:
    """Model, data and trainer of a configuration (``-c FILE`` and flags), built and not run.

    Raises:
        UsageError: for anything the user can mend.
    """
    argv, settings = _prepared(argv)
    return CaptionerCLI(args=argv, run=False, **settings)


def spec_of(part: Namespace) -> dict[str, Any]:
    """A parsed component as the mapping that ``ladic.spec.build`` takes."""
    values = part.as_dict()
    return {"class_path": values["class_path"], "init_args": values.get("init_args", {})}


def model_part(config: Namespace, name: str) -> dict[str, Any]:
    """Spec of a part of a parsed configuration's model, whichever captioner that is.

    Raises:
        UsageError: if its captioner has no such part.
    """
    arguments = config.model.get("init_args", config.model)
    if name not in arguments:
        chosen = str(config.model.class_path).rpartition(".")[2]
        raise UsageError(f"model: {chosen} has no {name}; give the configuration of a LatentDiffusionCaptioner")
    return spec_of(arguments[name])


def _prepared(argv: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Words for Lightning's CLI, and its settings for them; plug-ins are loaded."""
    argv = with_bases(with_runs(argv))
    check_configs(argv)
    load_plugins()
    _quiet()
    named = names_captioner(argv)
    return with_captioner(argv) if named else argv, _settings(named)


def _settings(named: bool) -> dict[str, Any]:
    return {
        "model_class": Captioner if named else LatentDiffusionCaptioner,
        "subclass_mode_model": named,
        "datamodule_class": CaptionDataModule,
        "subclass_mode_data": True,
        "trainer_class": PrecisionTrainer,
        "seed_everything_default": 0,
        "auto_configure_optimizers": False,
        # A requeued job must not die on the config.yaml that it wrote itself.
        "save_config_kwargs": {"overwrite": True},
        # No abbreviations: `--trainer.max_step` would mean max_steps until there is a second such option.
        "parser_kwargs": {"prog": "ladic", "parser_mode": "yaml", "allow_abbrev": False},
    }


def _locate_checkpoint(argv: list[str]) -> list[str]:
    """``--ckpt_path RUN`` may name a run's folder; "auto" is ours, "last", "best" and the like stay Lightning's.

    Raises:
        UsageError: if it is missing, damaged or not ours: Lightning would answer with a traceback.
    """
    located, words = [], iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        if name == "--ckpt_path":
            value = value if equals else next(words, "")
            special = value in ("auto", "last", "best", "hpc", "registry", "null", "")
            if not special:
                value = str(find_checkpoint(value))
                read_checkpoint(value, "meta")  # no tensors are read
            located.append(f"--ckpt_path={value}")
        else:
            located.append(word)
    return located


NOISE = (
    "args parameter is intended to run from within Python",  # we hand LightningCLI the words ourselves
    "does not have many workers",
    "Consider setting `persistent_workers",
    "in eval mode at the start of training",  # frozen parts are meant to be
    "lr_scheduler.step",
    "`IterableDataset` has `__len__` defined",  # streams of shards count their batches
    "`tensorboardX` has been removed",
    "is not supported by the model summary",
    "It is recommended to use `self.log(",  # about sync_dist: our scores are the same on every rank already
)
"""Parts of warnings that a user of this project can't act on."""

CHATTER = ("Tip: For seamless cloud", "TPU available", "Seed set to", "`weights_only` was not set")
"""Parts of Lightning's log lines that say nothing about the run: advertisements, and what config.yaml holds."""


def _quiet() -> None:
    """Hides advice of libraries that a user of this one can't act on."""
    for part in NOISE:
        warnings.filterwarnings("ignore", message=f".*{re.escape(part)}")
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", category=FutureWarning, module="lightning")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
    rank_zero = ("pytorch.utilities.rank_zero", "fabric.utilities.rank_zero", "fabric.utilities.seed")
    for name in (*rank_zero, "pytorch.trainer.connectors.checkpoint_connector"):
        logging.getLogger(f"lightning.{name}").addFilter(
            _tells_something
        )  # a filter is added once, however often this runs


def _tells_something(record: logging.LogRecord) -> bool:
    return not any(part in str(record.msg) for part in CHATTER)
