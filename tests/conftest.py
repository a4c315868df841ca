"""What every test may ask for."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: a missing hub costs 23 s a file

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import lightning  # noqa: F401  # now: its log handler keeps the stderr of its import, and a test's own is closed later
import pytest
import torch
from hypothesis import settings

from ladic.cli.main import main

torch.set_num_threads(min(2, torch.get_num_threads()))

settings.register_profile("ladic", deadline=None)  # a busy machine is no failure
settings.load_profile("ladic")

ROOT = Path(__file__).resolve().parents[1]


class Outcome(NamedTuple):
    """What a command line left behind."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Data and reference numbers that may not be published; they lie beside the checkout."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"no {folder}: it holds data that can't be published")
    return folder


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs ``ladic WORD …`` in this process: ``cli("components", "--json").stdout``."""

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        code: object = 0
        try:
            main([str(word) for word in words])
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        assert isinstance(code, int), f"sys.exit({code!r}): exit codes are numbers"
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, driven by Playwright; pages are tried in it where both are there."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is absent: pip install playwright")
    with playwright.sync_playwright() as driver:
        try:
            chromium = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        except playwright.Error:
            pytest.skip("no Chromium: apt-get install chromium, or playwright install chromium")
        yield chromium
        chromium.close()


LONGEST = ("test_docs", "test_many_ranks", "test_invariance", "test_export", "test_cli_tools", "test_plugin_example",
           "test_sweep")  # fmt: skip
"""Files that come first, so that no process of ``--dist loadfile`` is left alone with one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; the others stay in their order."""
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny run after two steps, with ``last.ckpt`` and validation results; its config is ../tiny.yaml."""
    from tiny_run import write_config

    folder = tmp_path_factory.mktemp("trained")
    main(["fit", "-c", str(write_config(folder))])
    return folder / "run"
