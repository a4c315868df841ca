"""The examples in docstrings, run under the modules' right names (pytest's own collector would use the folders')."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"ladic": "ladic", "components": "ladic.components", "datamodules": "ladic.datamodules"}

MODULES = [
    ".".join((package, *file.relative_to(ROOT / folder).with_suffix("").parts)).removesuffix(".__init__")
    for folder, package in FOLDERS.items()
    for file in sorted((ROOT / folder).rglob("*.py"))
    if re.search(r"^\s*>>> ", file.read_text("utf-8"), re.MULTILINE)
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(name)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, tried = doctest.testmod(module, optionflags=flags)
    assert tried > 0
    assert failed == 0
