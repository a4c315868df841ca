"""What the documentation takes from the project when it is built: results, the table of commands, and the source."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from markdown.extensions.toc import slugify
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def on_startup(**_: Any) -> None:
    """Copies the source to ``build/docs/ladic``, where the API pages find ``ladic.components`` as it is installed."""
    package = ROOT / "build" / "docs" / "ladic"
    shutil.rmtree(package, ignore_errors=True)
    without = shutil.ignore_patterns("__pycache__", "weights")
    shutil.copytree(ROOT / "ladic", package, ignore=without)
    for name in ("components", "datamodules"):
        shutil.copytree(ROOT / name, package / name, ignore=without)


def on_files(files: Any, config: Any) -> Any:
    """Adds the pictures of the results, which their pages name as if they lay beside them."""
    for picture in sorted(RESULTS.glob("*.png")):
        files.append(File.generated(config, picture.name, abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fills in ``<!-- results -->`` and ``<!-- commands -->``."""
    return markdown.replace("<!-- results -->", results()).replace("<!-- commands -->", commands())


def results() -> str:
    """Every page of ``benchmarks/results``, one below the other; headings a level down, links lead to headings."""
    pages = {page.name: page.read_text("utf-8") for page in sorted(RESULTS.glob("*.md"))}
    anchors = {name: slugify(text.partition("\n")[0].lstrip("# "), "-") for name, text in pages.items()}
    whole = re.sub(r"^(#+ )", r"#\1", "\n\n".join(pages.values()), flags=re.MULTILINE)
    return re.sub(r"\]\((\w+\.md)\)", lambda link: f"](#{anchors.get(link[1], link[1])})", whole)


def commands() -> str:
    """A row for each subcommand, from the table that ``ladic --help`` prints."""
    from ladic.cli.main import COMMANDS

    rows = [f"| `ladic {name}` | {command.help} |" for name, command in COMMANDS.items()]
    return "\n".join(["| command | what it does |", "|---|---|", *rows])
