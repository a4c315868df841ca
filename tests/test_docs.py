"""Every command and snippet of README and docs works as it stands."""

import ast
import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from doc_pages import PAGES, command_lines, run_command, run_python, small_world, snippets
from fake_hub import hub_in_place

from ladic.cli.main import COMMANDS, main

KNOWN = {"console", "python", "yaml", "toml", "text", "json"}


def ladic(words):
    try:
        main([str(word) for word in words])
    except SystemExit as stop:
        return stop.code or 0
    return 0


def walk(page):
    """Runs what stands on a page, in order, in the working directory."""
    names = {}
    for snippet in snippets(page):
        if snippet.mark.startswith("not run: "):
            continue
        if snippet.kind == "console":
            for words in command_lines(snippet.body):
                run_command(words, ladic)
        elif snippet.kind == "python":
            run_python(snippet, names)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The small world after the README's way has been gone: a trained run lies in it."""
    folder = tmp_path_factory.mktemp("world")
    small_world(folder)
    before = os.getcwd()
    os.chdir(folder)
    try:
        walk("README.md")
    finally:
        os.chdir(before)
    return folder


def test_the_readmes_way_leads_to_a_report(world):
    assert (world / "runs/demo/report.html").is_file()
    assert (world / "runs/demo/results_test.json").is_file()


NEEDS_PLUGIN = "docs/howto/plugin.md"
ELSEWHERE = {"README.md", NEEDS_PLUGIN, "examples/plugin/README.md"}
"""Walked by the fixture, with the plug-in installed, and (its commands are those of the page before) not at all."""


@pytest.mark.parametrize("page", [page for page in PAGES if page not in ELSEWHERE])
def test_a_page(world, page, tmp_path, monkeypatch):
    if not any(snippet.kind in ("console", "python") for snippet in snippets(page)):
        return
    folder = shutil.copytree(world, tmp_path / "world", symlinks=True)
    monkeypatch.chdir(folder)
    with hub_in_place(monkeypatch, tmp_path / "cache"):
        walk(page)


def test_the_page_about_plugins(world, tmp_path, root):
    """In a process where the plug-in is installed; installing itself is what tests/test_plugin_example.py does."""
    folder = shutil.copytree(world, tmp_path / "world", symlinks=True)
    info = tmp_path / "site" / "ladic_example_plugin-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ladic-example-plugin\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[ladic.components]\nexample = ladic_example\n")
    shutil.copytree(root / "examples/plugin/ladic_example", tmp_path / "site/ladic_example")
    script = f"import sys; sys.path[:0] = [{str(root / 'tests')!r}]; from test_docs import walk; walk({NEEDS_PLUGIN!r})"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES)
def test_blocks_are_of_a_kind_that_is_understood(page):
    for snippet in snippets(page):
        assert snippet.kind in KNOWN, f"{page}:{snippet.line}: ```{snippet.kind}"
        if snippet.kind == "python":
            ast.parse(snippet.body)
        if snippet.kind == "yaml":
            assert yaml.safe_load(snippet.body)


def test_every_fence_says_what_it_is():
    for page, file in PAGES.items():
        opened = [line for line in file.read_text("utf-8").splitlines() if line.startswith("```")]
        assert len(opened) == 2 * len(snippets(page)), f"{page}: a fence without a kind, or one that is not closed"


def test_every_command_stands_in_the_documentation():
    texts = " ".join(file.read_text("utf-8") for file in PAGES.values())
    assert [name for name in COMMANDS if f"ladic {name}" not in texts] == []


def test_every_page_is_in_the_menu(root):
    menu = (root / "mkdocs.yml").read_text("utf-8")
    pages = [str(page.relative_to(root / "docs")) for page in (root / "docs").rglob("*.md")]
    assert [page for page in pages if f": {page}\n" not in menu] == []


def test_a_command_that_does_not_work_is_seen(tmp_path, monkeypatch):
    small_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError, match="ended with 2"):
        run_command(["ladic", "fit", "-c", "configs/demo.yaml", "--modle.sampler=DDIMSampler"], ladic)
    with pytest.raises(AssertionError, match="no extra called"):
        run_command(["pip", "install", "-e", ".[gold]"], ladic)
    with pytest.raises(AssertionError, match="can't run 'frobnicate'"):
        run_command(["frobnicate"], ladic)


def test_it_builds_without_a_warning(root, tmp_path):
    """In two seconds, because the API pages read source and import nothing."""
    pytest.importorskip("mkdocs", reason="mkdocs is absent: pip install -e '.[docs]'")
    build = [
        "build",
        "--strict",
        "--site-dir",  # with --quiet it counts no warnings
        tmp_path / "site",
        "--config-file",
        root / "mkdocs.yml",
    ]
    done = subprocess.run([sys.executable, "-m", "mkdocs", *map(str, build)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "howto" / "own-images" / "index.html").is_file()
    shown = re.findall(r'<img [^>]*src="([^"]+)"', (tmp_path / "site" / "results" / "index.html").read_text())
    assert shown
    assert all((tmp_path / "site" / "results" / picture).is_file() for picture in shown)
