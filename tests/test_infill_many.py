"""``ladic infill --batch``: a batch at a time, and a broken picture costs its own templates alone."""

import json

import pytest
from tiny_run import error_line, picture, write_json

from ladic.captioner import LatentDiffusionCaptioner
from ladic.errors import UsageError


@pytest.fixture
def fill(cli, trained, tmp_path):
    """Runs the command on pairs of a picture's name and a template."""

    def run(pairs, *words):
        entries = [{"image": str(tmp_path / name), "template": template} for name, template in pairs]
        batch = write_json(tmp_path / "batch.json", entries)
        return cli("infill", "--batch", batch, f"--checkpoint={trained}", "--longest-blank=1", *words)

    for name in ("red", "green", "blue"):
        picture(tmp_path / f"{name}.png", name)
    return run


PAIRS = [("red.png", "a ___ red"), ("gone.png", "two ___"), ("green.png", "a ___ dogs"), ("gone.png", "a ___")]


def test_a_broken_picture_is_told_once_and_the_others_are_filled(fill, tmp_path):
    done = fill([*PAIRS, ("red.png", "two ___")], "--batch-size=1", "--json")
    assert done.code == 1
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(record["image"], record["template"]) for record in records] == [
        (str(tmp_path / "red.png"), "a ___ red"),
        (str(tmp_path / "green.png"), "a ___ dogs"),
        (str(tmp_path / "red.png"), "two ___"),
    ]
    assert done.stderr == f"error: image '{tmp_path / 'gone.png'}': no such file\n"
    assert done.stdout == fill([*PAIRS, ("red.png", "two ___")], "--batch-size=9", "--json").stdout
    assert (fill(PAIRS[1:2]).code, fill(PAIRS[1:2]).stdout) == (1, "")


def test_what_was_filled_is_printed_before_the_next_is_begun(fill, monkeypatch):
    real, begun = LatentDiffusionCaptioner.infill, []

    def infill(model, images, templates, **more):
        begun.append(templates)
        if len(begun) == 3:
            raise UsageError("stopped")
        return real(model, images, templates, **more)

    monkeypatch.setattr(LatentDiffusionCaptioner, "infill", infill)
    done = fill([("red.png", "a ___"), ("green.png", "a ___ red"), ("blue.png", "two ___")], "--batch-size=1")
    assert begun == [["a ___"], ["a ___ red"], ["two ___"]]
    assert len(done.stdout.splitlines()) == 2
    assert error_line(done.stderr) == "stopped"


def test_a_template_that_can_not_be_filled_is_told_before_the_first(fill):
    done = fill([("red.png", "a ___"), ("green.png", "a 犬 ___")], "--batch-size=1")
    assert (done.code, done.stdout) == (2, "")
    assert "the text model doesn't know '犬'" in error_line(done.stderr)
