"""Lines that several pages of results share."""

from __future__ import annotations

import subprocess
from typing import Any


def commit() -> str:
    """Short hash of what is checked out."""
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()


def sampling(scores: dict[str, Any]) -> list[str]:
    """How captions came about, from ``scores_<split>.json``: sampler, candidates, selector, counted NFE, time."""
    components = scores["config"]["components"]
    sampler, selector = components["sampler"], components["selector"]
    settings = {**sampler["init_args"]}
    return [
        f"- {_name(sampler)} {settings}, guidance scale {scores['guidance']['scale']}; {scores['num_candidates']} "
        f"candidates, chosen by {_name(selector)} {_plain(selector)};",
        f"  counted NFE {scores['nfe']} a candidate and {scores['selection_nfe']} for choosing; "
        f"{scores['seconds_per_image']:.3f} s a picture with scoring",
    ]


def _name(part: dict[str, Any]) -> str:
    return str(part["class_path"]).rpartition(".")[2]


def _plain(part: dict[str, Any]) -> dict[str, Any]:
    """Arguments with a part among them given by its name."""
    arguments = part["init_args"]
    return {key: _name(value) if isinstance(value, dict) else value for key, value in arguments.items()}
