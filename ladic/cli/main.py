"""The command ``ladic``: hands over to a subcommand by its first word.

Subcommands are imported when called, because torch, Lightning and transformers take three seconds and ``--help``
should not.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from pathlib import Path
from typing import NamedTuple

from ladic import __version__
from ladic.errors import UsageError
from ladic.plugins import one_line, unknown
from ladic.slurm import EarlySignals


class Command(NamedTuple):
    """Where a subcommand lives and what it does.

    Attributes:
        module: under ``ladic.cli``; its ``main(argv) -> int | None`` gets the words after the subcommand.
        help: one line for ``ladic --help``.
    """

    module: str
    help: str


LIGHTNING = "lightning_cli"
"""Module whose ``run(argv, …)`` gets all the words: Lightning has subcommands of its own."""

COMMANDS = {
    "fit": Command(LIGHTNING, "train a captioner from a configuration and flags"),
    "validate": Command(LIGHTNING, "score a checkpoint on the validation split"),
    "test": Command(LIGHTNING, "score a checkpoint on the test split"),
    "predict": Command(LIGHTNING, "write captions for a split"),
    "caption": Command("caption", "caption image files with a checkpoint"),
    "infill": Command("infill", "fill in the blanks of captions in view of a picture"),
    "trace": Command("trace", "show a caption at every step of its making"),
    "demo": Command("demo", "train, test and report on drawn scenes, in minutes on a laptop"),
    "pretrain-image": Command("pretrain_image", "train a small image encoder on a datamodule's pictures and captions"),
    "pretrain-text": Command("pretrain_text", "train a small BERT and its tokenizer on a datamodule's captions"),
    "fit-space": Command("fit_space", "fit a text latent space: statistics, and the head where it has none"),
    "fit-phrases": Command("fit_phrases", "fit a detector of caption phrases on image tokens, to choose candidates by"),
    "fit-words": Command("fit_words", "fit what words captions of a picture would have, to choose candidates by"),
    "fit-ngrams": Command("fit_ngrams", "count which words follow each other in training captions, for NgramRounding"),
    "fit-frequencies": Command("fit_frequencies", "count the n-grams of training captions, for CIDEr-D as a utility"),
    "cache-features": Command("cache_features", "save the image tokens of a frozen encoder for a datamodule"),
    "data": Command("data", "check a configuration's data, or download a published data set"),
    "score": Command("score", "score a file of captions against references"),
    "convert": Command("convert", "released LaDiC weights to a checkpoint; a checkpoint to safetensors and back"),
    "sweep": Command("sweep", "run rows of configurations over seeds, resumably, and gather one table"),
    "report": Command("report", "draw the HTML report of a run"),
    "plot": Command("plot", "draw noise schedules"),
    "human": Command("human", "let people rate captions blindly, and analyse their ratings"),
    "export": Command("export", "write encoder, denoiser step and decoder as ONNX and torch.export files"),
    "doctor": Command("doctor", "look at this machine and job: devices, Java, hub, disk, SLURM, reach between ranks"),
    "components": Command("components", "list the registered components and their options"),
    "serve": Command("serve", "a web page and an HTTP API that caption pictures"),
    "completion": Command("completion", "print shell completion for bash, zsh or fish"),
    "configs": Command("configs", "list, print or locate the shipped configurations"),
}


def main(argv: list[str] | None = None) -> None:
    """Runs a command line; returns normally on success.

    Args:
        argv: words after ``ladic``; those of the process by default.

    Raises:
        SystemExit: with 2 after wrong input, told in one line on stderr; 130 after Ctrl-C; otherwise what the
            subcommand returned, if not 0.
    """
    code = _run(sys.argv[1:] if argv is None else argv)
    if code:
        sys.exit(code)


def _run(argv: list[str]) -> int:
    """Exit code of a command line."""
    try:
        code = _dispatch(argv)
        sys.stdout.flush()  # here, where a closed pipe can still be caught
        return code
    except UsageError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return _interrupted()
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning turns Ctrl-C into exit(1)
            return _interrupted()
        raise
    except BrokenPipeError:  # `ladic components | head`; what is still buffered must not fail again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a full disk, a folder that is somebody else's
        if not isinstance(error.filename, str | bytes) or not error.strerror:  # nothing that the user could mend
            raise
        told = f"{os.fsdecode(error.filename2 or error.filename)}: {error.strerror}"
    except UnicodeDecodeError as error:
        told = _not_utf8(error, argv)
    print(f"error: {' '.join(told.splitlines())}", file=sys.stderr)
    return 2


def _not_utf8(error: UnicodeDecodeError, argv: list[str]) -> str:
    """The complaint, with the file's name where the words have it."""
    what = f"not UTF-8 text (at {error.object[error.start : error.start + 20]!r}); save it as UTF-8"
    for word in argv:
        file = Path(word.partition("=")[2] or word)
        with contextlib.suppress(OSError):  # a word may be too long for a file's name
            if file.is_file() and error.object in file.read_bytes():
                return f"'{file}': {what}"
    return f"a file that was to be read is {what}"


def _dispatch(argv: list[str]) -> int:
    if not argv:
        print(_help(), file=sys.stderr)
        return 2
    word, rest = argv[0], argv[1:]
    if word in ("-h", "--help"):
        print(_help())
        return 0
    if word == "--version":
        print(f"ladic {__version__}")
        return 0
    if word.startswith("-"):
        raise UsageError(f"'{word}' comes before the subcommand; write `ladic SUBCOMMAND {word} …`")
    if word not in COMMANDS:
        raise unknown("subcommand", word, COMMANDS)
    if word == "fit":  # before the seconds of imports: a job may be told to make room at any moment
        with EarlySignals() as early:
            importlib.import_module(f"ladic.cli.{LIGHTNING}").run(argv, early)
        return 0
    module = importlib.import_module(f"ladic.cli.{COMMANDS[word].module}")
    if COMMANDS[word].module == LIGHTNING:
        module.run(argv)
        return 0
    return module.main(rest) or 0


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: ladic SUBCOMMAND [OPTION …]",
            "",
            "Image captioning by latent diffusion, made of swappable parts.",
            "",
            "subcommands:",
            *lines,
            "",
            "options:",
            "  -h, --help  this text; `ladic SUBCOMMAND --help` shows a subcommand's options",
            "  --version   the version",
        ]
    )


def _interrupted() -> int:
    print("interrupted", file=sys.stderr)
    return 130
