"""``ladic fit | validate | test | predict``: Lightning's CLI over our captioner and datamodules."""

from __future__ import annotations

import re
import sys
import warnings
from typing import Any, NoReturn

from jsonargparse import Namespace
from lightning import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from ladic.captioner import COMPONENTS, LatentDiffusionCaptioner
from ladic.checkpoints import find_checkpoint
from ladic.datamodules import CaptionDataModule
from ladic.errors import UsageError
from ladic.plugins import closest, load_plugins

SUBCOMMANDS = ("fit", "validate", "test", "predict")


class OneLineParser(LightningArgumentParser):
    """Complaints are one line with the nearest name, instead of sixty lines of usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise UsageError(explain(message)) from ex


class CaptionerCLI(LightningCLI):
    """Lightning's CLI with our parser; ``parse_only`` stops before anything is built."""

    parse_only = False

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        parser = OneLineParser(**kwargs)
        parser.add_argument("-c", "--config", action=self._config_action(), help="a YAML file; may be given again")
        return parser

    @staticmethod
    def _config_action() -> Any:
        from jsonargparse import ActionConfigFile

        return ActionConfigFile

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.set_defaults({"trainer.logger": True})

    def before_instantiate_classes(self) -> None:
        if self.parse_only:
            raise _Parsed(self.config)


class _Parsed(Exception):
    """Carries the parsed configuration out of Lightning's constructor."""

    def __init__(self, config: Namespace) -> None:
        self.config = config


def run(argv: list[str]) -> None:
    """Parses and runs one of Lightning's subcommands.

    Raises:
        UsageError: for anything the user can mend.
    """
    load_plugins()
    _quiet()
    argv = _locate_checkpoint(argv)
    try:
        CaptionerCLI(args=argv, **_settings())
    except FileNotFoundError as error:
        raise UsageError(f"{error.filename or error}: no such file") from error


def parse(argv: list[str]) -> Namespace:
    """The configuration of a run (``-c FILE`` and flags) with every default filled in; nothing is built.

    Example:
        ``parse(["-c", "configs/demo.yaml", "--data.batch_size=8"]).data.init_args.batch_size`` is 8.
    """
    load_plugins()
    _quiet()

    class Parsing(CaptionerCLI):
        parse_only = True

    try:
        Parsing(args=argv, run=False, **_settings())
    except _Parsed as parsed:
        return parsed.config
    raise AssertionError("the parser built its classes")


def spec_of(part: Namespace) -> dict[str, Any]:
    """A parsed component as the mapping that ``ladic.spec.build`` takes."""
    values = part.as_dict()
    return {"class_path": values["class_path"], "init_args": values.get("init_args", {})}


def explain(message: str) -> str:
    """jsonargparse's complaint in one line, with the nearest component where a class was not found."""
    flag = re.search(r'(?:Parser|Validation) key? ?"([\w.]+)"|Parser key "([\w.]+)"', message)
    option = next((group for group in flag.groups() if group), None) if flag else None
    unknown = re.search(r"(?:Unexpected|[Uu]nknown|No subclass|not import|resolve).*?['\"]?([A-Z]\w+)['\"]?", message)
    kind = next((name for name in [*COMPONENTS, "denoiser"] if option and option.startswith(f"model.{name}")), None)
    if option == "data":
        kind = "data"
    given = re.search(r"Given value: ([A-Za-z_][\w.]*)", message) or unknown
    if kind is not None and given is not None:
        names = registered(kind)
        if given.group(1).rpartition(".")[2] not in names:
            near = closest(given.group(1), names)
            hint = f"did you mean {near}?" if near else f"there are {', '.join(names)}"
            return f"--{option}: no {kind.replace('_', ' ')} called '{given.group(1)}'; {hint}"
    lines = [line.strip(" -") for line in message.splitlines() if line.strip(" -")]
    return "; ".join(lines[:4]) if lines else message


def registered(kind: str) -> list[str]:
    """Short names of the components that a place of the configuration accepts."""
    from ladic.components.denoisers import Denoiser

    base = {**COMPONENTS, "denoiser": Denoiser, "data": CaptionDataModule}[kind]
    found, stack = set(), [base]
    while stack:
        for cls in stack.pop().__subclasses__():
            stack.append(cls)
            if not getattr(cls, "__abstractmethods__", None):
                found.add(cls.__name__)
    return sorted(found)


def _settings() -> dict[str, Any]:
    return {
        "model_class": LatentDiffusionCaptioner,
        "datamodule_class": CaptionDataModule,
        "subclass_mode_data": True,
        "trainer_class": Trainer,
        "seed_everything_default": 0,
        "auto_configure_optimizers": False,
        # A requeued job must not die on the config.yaml that it wrote itself.
        "save_config_kwargs": {"overwrite": True},
        "parser_kwargs": {"parser_mode": "yaml"},
    }


def _locate_checkpoint(argv: list[str]) -> list[str]:
    """``--ckpt_path RUN`` may name a run's folder; "last", "best" and the like stay Lightning's."""
    located, words = [], iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        if name == "--ckpt_path":
            value = value if equals else next(words, "")
            special = value in ("last", "best", "hpc", "registry", "null", "")
            located.append(f"--ckpt_path={value if special else find_checkpoint(value)}")
        else:
            located.append(word)
    return located


def _quiet() -> None:
    """Hides advice of libraries that a user of this one can't act on."""
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*Consider setting `persistent_workers.*")
    warnings.filterwarnings("ignore", message=".*modules in eval mode at the start of training.*")
    warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", category=FutureWarning, module="lightning")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
