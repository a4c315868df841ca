"""examples/plugin as a stranger uses it: installed by pip, chosen by short name, saved, loaded in a new process."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from tiny_run import error_line, picture, write_config

CHOICE = [
    "--model.image_encoder=CellEncoder",
    "--model.image_encoder.cells=4",
    "--model.noise_schedule=LaplaceSchedule",
    "--model.noise_schedule.scale=0.7",
    "--model.sampler=AsymmetricSampler",
    "--model.sampler.num_steps=2",
]

LOADING = """
import json, sys
import pytest
from ladic import LatentDiffusionCaptioner
from ladic.cli.main import main

run, folder, picture, tests = sys.argv[1:]
model = LatentDiffusionCaptioner.load_from_checkpoint(run)
parts = [type(part).__name__ for part in (model.image_encoder, model.noise_schedule, model.sampler)]
model.save_pretrained(folder)
again = LatentDiffusionCaptioner.from_pretrained(folder)
print(json.dumps([*parts, model.noise_schedule.scale, again.noise_schedule.scale, again.sampler.time_difference]))
main(["caption", picture, "--checkpoint", folder])
print("own tests:", int(pytest.main(["-q", "-p", "no:cacheprovider", tests])))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder of installed packages that holds the plug-in."""
    from tiny_run import EXAMPLES

    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(EXAMPLES / "plugin", folder / "source")  # a build leaves files in its tree
    install = ["install", "--no-deps", "--no-build-isolation", "--target", folder / "site", folder / "source"]
    done = subprocess.run([sys.executable, "-m", "pip", *map(str, install)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def python(site):
    """Runs Python with the plug-in installed, from a folder that has nothing of ours in it."""

    def run(*words, cwd):
        environment = {**os.environ, "PYTHONPATH": str(site)}
        done = subprocess.run(
            [sys.executable, *map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def run(python, tmp_path_factory):
    """A run with all three components, chosen by their short names."""
    folder = tmp_path_factory.mktemp("with_plugin")
    python("-m", "ladic", "fit", "-c", write_config(folder), *CHOICE, cwd=folder)
    return folder / "run"


def test_it_is_listed_with_its_parameters_and_its_flag(python, tmp_path):
    listed = python("-m", "ladic", "components", cwd=tmp_path)
    for name in ("CellEncoder", "LaplaceSchedule", "AsymmetricSampler"):
        assert [line for line in listed.splitlines() if name in line and line.endswith("[plug-in example]")]
    shown = python("-m", "ladic", "components", "samplers", "AsymmetricSampler", cwd=tmp_path)
    assert "--model.sampler=AsymmetricSampler" in shown
    assert "time_difference: float = 1.0" in shown


def test_it_trains_saves_and_loads_in_a_new_process(python, run, root, tmp_path):
    assert json.loads((run / "results_val.json").read_text())
    file = picture(tmp_path / "a.png")
    tests = root / "examples" / "plugin" / "tests"
    said = python("-c", LOADING, run, tmp_path / "model", file, tests, cwd=tmp_path).splitlines()
    assert json.loads(said[0]) == ["CellEncoder", "LaplaceSchedule", "AsymmetricSampler", 0.7, 0.7, 1.0]
    assert said[-1] == "own tests: 0"


def test_where_it_is_not_installed_that_is_what_is_said(cli, run, tmp_path):
    done = cli("caption", picture(tmp_path / "a.png"), "--checkpoint", run)
    assert done.code == 2
    line = error_line(done.stderr)
    assert "'ladic_example." in line
    assert "install the package that provides it" in line
