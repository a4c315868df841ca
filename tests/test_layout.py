"""setup.cfg says which folder is which package; nothing else checks that it says all of it."""

import configparser
import subprocess
import sys
from pathlib import Path

import pytest

ROOTS = {
    "ladic": "ladic",
    "components": "ladic.components",
    "datamodules": "ladic.datamodules",
    "configs": "ladic.configs",
}


def setup_cfg(root: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(root / "setup.cfg", encoding="utf-8")
    return parser


def test_the_packages_listed_are_the_folders_that_hold_python_files(root):
    listed = setup_cfg(root)["options"]["packages"].split()
    folders = {
        ".".join((package, *file.parent.relative_to(root / folder).parts))
        for folder, package in ROOTS.items()
        for file in (root / folder).rglob("*.py")
    }
    assert listed == sorted(folders)


def test_every_package_has_an_init(root):
    folders = {file.parent for folder in ROOTS for file in (root / folder).rglob("*.py")}
    assert [str(folder.relative_to(root)) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_package_dir_maps_every_root(root):
    lines = setup_cfg(root)["options"]["package_dir"].split("\n")
    assert dict(line.split(" = ") for line in lines if line) == {package: folder for folder, package in ROOTS.items()}


def test_every_config_is_shipped(root):
    patterns = setup_cfg(root)["options.package_data"]["ladic.configs"].split(", ")
    for file in (root / "configs").rglob("*.yaml"):
        path = file.relative_to(root / "configs")
        assert any(path.match(pattern) and len(path.parts) == len(Path(pattern).parts) for pattern in patterns), (
            f"{path} matches none of {patterns}"
        )


@pytest.mark.parametrize("name", ["components", "datamodules"])
def test_the_wrong_name_is_refused_with_advice(root, name):
    done = subprocess.run([sys.executable, "-c", f"import {name}"], cwd=root, capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last == f"ImportError: import ladic.{name}, not {name}: install the project with `pip install -e .`"
