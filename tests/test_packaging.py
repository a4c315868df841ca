"""The wheel, installed alone: the folders land under ladic.*, and nobody's own folders get in between."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SOURCES = ["ladic", "components", "datamodules", "configs", "pyproject.toml", "setup.cfg", "README.md", "LICENSE"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy: a build in the tree leaves build/lib behind, whose deleted modules come back."""
    root = Path(__file__).resolve().parents[1]
    tree = tmp_path_factory.mktemp("tree")
    for name in SOURCES:
        if (root / name).is_dir():
            shutil.copytree(root / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(root / name, tree / name)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tree / "dist", tree)
    (built,) = (tree / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """An environment with our wheel and nothing else, not even pip."""
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    interpreter = venv / "bin" / "python"
    pip("--python", interpreter, "install", "--no-deps", "--no-index", wheel)
    return interpreter


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    """A working directory with folders of the same names that must not be imported."""
    for name in ("components", "datamodules", "configs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong folder was imported')\n")
    return tmp_path


def pip(*words: object) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_holds_one_package_and_all_of_it(wheel, root):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"ladic"}
    assert "ladic/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    for folder, prefix in {
        "ladic": "ladic",
        "components": "ladic/components",
        "datamodules": "ladic/datamodules",
    }.items():
        files = {f"{prefix}/{file.relative_to(root / folder)}" for file in (root / folder).rglob("*.py")}
        assert files <= set(names)
    configs = {f"ladic/configs/{file.relative_to(root / 'configs')}" for file in (root / "configs").rglob("*.yaml")}
    assert configs <= set(names)


@pytest.mark.parametrize("start", ["python -m ladic", "ladic"])
def test_components_are_listed_from_another_folder(python, elsewhere, start):
    words = start.split()
    start = [python.parent / words[0], *words[1:]]
    done = subprocess.run([*start, "components"], cwd=elsewhere, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("TimmEncoder", "BertLatentSpace", "CrossAttentionDenoiser", "CosineSchedule", "DDIMSampler"):
        assert f"  {name} " in done.stdout


def test_configs_are_listed_and_located_from_another_folder(python, elsewhere, root):
    names = sorted(str(f.relative_to(root / "configs").with_suffix("")) for f in (root / "configs").rglob("*.yaml"))
    done = subprocess.run([python, "-m", "ladic", "configs", "--json"], cwd=elsewhere, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert [row["name"] for row in json.loads(done.stdout)] == names
    for name in names:
        done = subprocess.run(
            [python, "-m", "ladic", "configs", "path", name], cwd=elsewhere, capture_output=True, text=True
        )
        assert Path(done.stdout.strip()).read_bytes() == (root / "configs" / f"{name}.yaml").read_bytes()
