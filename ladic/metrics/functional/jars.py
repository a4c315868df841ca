"""Where Java and the jars of METEOR and SPICE are: those that an installed pycocoevalcap brings along.

pycocoevalcap is looked up and never imported: importing it is slow, and its SPICE downloads when constructed.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path


class Unavailable(RuntimeError):
    """A metric can't be had on this machine; the message says why and what would help."""


def find_java() -> str:
    """Path of the ``java`` program.

    Raises:
        Unavailable: when there is none.
    """
    java = shutil.which("java")
    if java is None:
        raise Unavailable("no 'java' program on the PATH (for example: apt install default-jre-headless)")
    return java


def find_jar(*parts: str, package: str | Path | None = None) -> Path:
    """A file inside pycocoevalcap.

    Args:
        parts: its path there.
        package: the folder of a pycocoevalcap that can't be imported from here.

    Raises:
        Unavailable: when pycocoevalcap or the file isn't there.
    """
    if package is None:
        spec = importlib.util.find_spec("pycocoevalcap")
        if spec is None or not spec.submodule_search_locations:
            raise Unavailable(f"{parts[-1]} comes with pycocoevalcap, which isn't installed: pip install pycocoevalcap")
        package = spec.submodule_search_locations[0]
    path = Path(package, *parts)
    if not path.is_file():
        raise Unavailable(f"{path} isn't there")
    return path


def c_locale() -> dict[str, str]:
    """The environment for Java: the C locale, in which numbers have a decimal point."""
    return {**os.environ, "LC_ALL": "C"}
