"""Strangers' components: an installed package with an entry point, here a folder on the path made on the spot."""

import importlib
import importlib.metadata
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import ladic
from ladic.catalog import find_components
from ladic.errors import UsageError
from ladic.plugins import KINDS, closest, load_plugins, one_line, unknown

HEUN = '''
from __future__ import annotations
import nothing_like_this_is_installed
from ladic.components import DDIMSampler, Sampler as Walker
from ladic.components.samplers import base


class LeapSampler(DDIMSampler):
    """Second order.

    It asks twice a step.

    Args:
        churn: noise put back before a step,
            as a share of what is there.
        order (int): 2, or 1 for Euler.
    """

    def __init__(self, churn: float = 0.5, *, order: int = 2, **kwargs) -> None:
        super().__init__(**kwargs)


class Idle(base.Sampler):
    """Keeps what it has."""


class Abstract(Walker):
    """Not one to choose."""

    @abstractmethod
    def more(self): ...


class _Private(Walker): ...


class NotASampler: ...
'''


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a package with an entry point of our group on the path, as pip would."""

    def put(name: str, files: dict[str, str], module: str | None = None) -> Path:
        for file, text in files.items():
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[ladic.components]\n{name} = {module or name}\n")
        monkeypatch.syspath_prepend(tmp_path)
        return tmp_path

    return put


@pytest.fixture
def stranger(install):
    """A package that imports torch and something that isn't there: reading it must not run it."""
    return install(
        "stranger",
        {
            "__init__.py": "import torch\n",
            "parts/__init__.py": "from .heun import *\nif True:\n    from stranger.parts.lazy import Lazy\n",
            "parts/heun.py": HEUN,
            "parts/lazy.py": "from ladic.components import *\nclass Lazy(Sampler):\n    '''One step.'''\n",
            "parts/unused.py": "from ladic.components import Sampler\nclass Unused(Sampler): ...\n",
        },
        module="stranger.parts",
    )


def test_a_strangers_components_are_listed_by_their_source(stranger):
    found = {component.name: component for component in find_components() if component.plugin == "stranger"}
    assert set(found) == {"LeapSampler", "Idle", "Lazy"}
    heun = found["LeapSampler"]
    assert (heun.kind, heun.summary) == ("samplers", "Second order.")
    assert heun.class_path == "stranger.parts.heun.LeapSampler"
    assert Path(heun.file) == stranger / "stranger/parts/heun.py"


def test_parameters_come_from_the_signature_and_the_docstrings(stranger):
    heun = next(component for component in find_components() if component.name == "LeapSampler")
    parameters = {p.name: (p.type, p.default, p.help) for p in heun.parameters}
    assert list(parameters) == ["churn", "order", "num_steps", "eta", "spacing"]  # **kwargs hands on to DDIMSampler
    assert parameters["churn"] == ("float", "0.5", "noise put back before a step, as a share of what is there.")
    assert parameters["order"] == ("int", "2", "2, or 1 for Euler.")
    assert parameters["eta"][:2] == ("float", "0.0")
    idle = next(component for component in find_components() if component.name == "Idle")
    assert [p.name for p in idle.parameters] == ["num_steps", "spacing"]


def test_listing_imports_nothing(stranger):
    probe = (
        "import sys; from ladic.cli.main import main; main(['components', 'samplers']); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=stranger, capture_output=True, text=True)
    assert done.stderr == ""
    assert "LeapSampler" in done.stdout
    assert "[plug-in stranger]" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"


def test_the_command_shows_flag_source_and_parameters(stranger, cli):
    done = cli("components", "sampler", "LeapSampler")
    assert (done.code, done.stderr) == (0, "")
    assert "--model.sampler=LeapSampler" in done.stdout
    assert str(stranger / "stranger/parts/heun.py") in done.stdout
    assert "churn: float = 0.5" in done.stdout
    assert "noise put back before a step, as a share of what is there." in done.stdout


def test_the_command_shows_the_paper_and_what_the_docstring_says(cli):
    shown = cli("components", "samplers", "DDIMSampler").stdout
    assert "paper  Song et al. 202" in shown
    for kind, name, paper in (
        ("denoisers", "CrossAttentionDenoiser", "LaDiC (Wang et al. 2024), §3.3"),
        ("noise_schedules", "ShiftedSchedule", "Hoogeboom et al. 2023"),
        ("selectors", "MinimumBayesRiskSelector", "Kumar & Byrne 2004"),
    ):
        assert paper in cli("components", kind, name).stdout
    shown = cli("components", "noise_schedules", "ShiftedSchedule").stdout
    assert "alpha_bar' = alpha_bar / (alpha_bar + F^2 (1 - alpha_bar))" in shown
    assert ">>>" not in shown


def test_json(stranger, cli):
    rows = json.loads(cli("components", "--json").stdout)
    heun = next(row for row in rows if row["name"] == "LeapSampler")
    assert heun["flag"] == "--model.sampler=LeapSampler"
    assert heun["parameters"][0]["name"] == "churn"
    assert {row["kind"] for row in json.loads(cli("components", "samplers", "--json").stdout)} == {"samplers"}


def test_a_short_name_taken_twice_is_chosen_by_its_import_path(install, cli):
    install("other", {"__init__.py": "from ladic.components import Sampler\nclass DDIMSampler(Sampler): ...\n"})
    out = cli("components", "samplers", "DDIMSampler").stdout
    assert "--model.sampler=other.DDIMSampler" in out
    assert "--model.sampler=ladic.components.samplers.ddim.DDIMSampler" in out


@pytest.mark.parametrize(
    ("files", "module", "reason"),
    [
        ({}, "absent", "no module named 'absent'"),
        ({"__init__.py": "def broken(:\n"}, "unwell", "SyntaxError"),
    ],
)
def test_a_plugin_that_cannot_be_read_is_named_and_the_rest_goes_on(install, caplog, files, module, reason):
    install("unwell", {"data.txt": "", **files}, module=module)
    names = [component.name for component in find_components()]
    assert "DDIMSampler" in names
    (record,) = [record for record in caplog.records if record.name == "ladic.plugins"]
    assert record.getMessage().startswith(f"plug-in 'unwell' ({module}) is left out: ")
    assert reason in record.getMessage()


@pytest.mark.parametrize("error", ["RuntimeError('no licence\\nfile')", "SystemExit('no licence')"])
def test_a_plugin_that_raises_is_named_and_the_rest_goes_on(install, caplog, error):
    install("aaa_broken", {"__init__.py": f"raise {error}\n"})
    install("fine", {"__init__.py": "here = True\n"})
    loaded = load_plugins()
    assert {"builtin", "builtin_data", "fine"} <= set(loaded)
    assert "aaa_broken" not in loaded
    (record,) = [record for record in caplog.records if record.name == "ladic.plugins"]
    assert record.getMessage().startswith("plug-in 'aaa_broken' (aaa_broken) is left out: ")
    assert "no licence" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_our_own_modules_missing_is_an_installation_to_repair(monkeypatch, caplog):
    point = importlib.metadata.EntryPoint("builtin", "ladic.parts_that_are_not_there", "ladic.components")
    monkeypatch.setattr("ladic.plugins.entry_points", lambda group: [point])
    for look in (load_plugins, find_components):
        with pytest.raises(UsageError, match="pip install -e"):
            look()
    assert caplog.records == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["smplers"], "no kind of component called 'smplers'; did you mean samplers?"),
        (["samplers", "DDMSampler"], "no sampler called 'DDMSampler'; did you mean DDIMSampler?"),
        (["image-encoder", "TimEncoder"], "no image encoder called 'TimEncoder'; did you mean TimmEncoder?"),
        (["DDIMSampler"], "'DDIMSampler' is no kind of component; type `ladic components samplers DDIMSampler`"),
        (
            ["samplers", "DDIMSampler", "x"],
            "unrecognized arguments: x (`ladic components --help` shows what is accepted)",
        ),
    ],
)
def test_an_unknown_component_is_one_line(cli, words, message):
    assert cli("components", *words) == (2, "", f"error: {message}\n")


@pytest.mark.parametrize("typed", ["datamodules", "datamodule", "data"])
def test_a_kind_has_several_spellings(cli, typed):
    done = cli("components", typed, "ShapesDataModule")
    assert done.code == 0
    assert "--data=ShapesDataModule" in done.stdout


def test_the_models_own_arguments_are_no_flags(cli):
    rows = json.loads(cli("components", "denoisers", "CrossAttentionDenoiser", "--json").stdout)
    assert {"width", "length", "cond_width"}.isdisjoint(p["name"] for p in rows[0]["parameters"])


def test_selectors_are_listed_though_they_live_elsewhere(cli):
    assert "MinimumBayesRiskSelector" in cli("components", "selector").stdout


def registered(base: type) -> set[str]:
    """Import paths of the classes that Python itself knows under a base class."""
    found = {cls for cls in base.__subclasses__()}
    paths = {f"{cls.__module__}.{cls.__qualname__}" for cls in found if not inspect.isabstract(cls)}
    return paths.union(*map(registered, found))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_list_read_from_source_is_what_importing_registers(kind):
    load_plugins()
    module, _, name = kind.base.rpartition(".")
    base = getattr(importlib.import_module(module), name)
    ours = {path for path in registered(base) if path.startswith("ladic.") and "._" not in path}
    assert {c.class_path for c in find_components() if c.kind == kind.name} == ours


@pytest.mark.parametrize("component", find_components(), ids=lambda component: component.name)
def test_parameters_read_from_source_are_the_constructors(component):
    module, _, name = component.class_path.rpartition(".")
    signature = inspect.signature(getattr(importlib.import_module(module), name))
    kind = next(kind for kind in KINDS if kind.name == component.kind)
    takes = [p.name for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD and p.name not in kind.given]
    listed = [parameter.name for parameter in component.parameters]
    assert listed[: len(takes)] == takes
    assert [p.name for p in component.parameters if not p.help] == [], "the docstring's Args: says nothing about these"


def test_every_flag_is_an_argument_of_the_captioner():
    takes = inspect.signature(ladic.LatentDiffusionCaptioner).parameters
    assert [
        k.flag for k in KINDS if k.flag not in ("--data", "--model") and k.flag.removeprefix("--model.") not in takes
    ] == []


def test_nothing_near_lists_what_there_is():
    assert closest("zebra", ["LinearSchedule"]) is None
    assert closest("", ["LinearSchedule"]) is None
    assert str(unknown("noise schedule", "zebra", [])) == "no noise schedule called 'zebra'; there are: none"


def test_a_workers_traceback_is_not_part_of_the_message():
    text = (
        'Caught UsageError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File "x"\n'
    )
    assert one_line(UsageError(f"{text}ladic.errors.UsageError: cat.jpg: not an image\n")) == "cat.jpg: not an image"
