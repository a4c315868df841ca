"""The benchmarks of the full-size model, driven at toy size: their pages, what they compare, and that it is equal."""

import json
import re

import pytest
import torch

from benchmarks import versus_ar
from benchmarks.blip import blip, captioning, in_mode
from benchmarks.full_size import SIZES, at_length, full_size, image_encoder, pictures, plain_loop, runner, text_space
from benchmarks.rows import Rows

TOY = SIZES["toy"]


@pytest.fixture
def drive(tmp_path, capsys):
    """Runs a benchmark's ``main`` at toy size, one round, into ``tmp_path``; the page that it writes."""

    def run(benchmark, *words):
        name = benchmark.__name__.rpartition(".")[2]
        page = tmp_path / f"{name}.md"
        benchmark.main(["--size=toy", "--rounds=1", f"--work={tmp_path / 'work'}", f"--page={page}", *words])
        capsys.readouterr()
        return page.read_text()

    return run


def table_rows(page, columns):
    """Rows of numbers of the tables with so many columns."""
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if re.match(r"\| [\d-]", line)]
    return [row for row in rows if len(row) == columns]


def opponent(mode="fp32"):
    tokenizer = text_space(TOY, 12).tokenizer
    model = in_mode(blip(image_encoder(TOY), tokenizer, TOY), mode)
    return model, captioning(model, tokenizer, mode)


def test_the_race_has_a_row_for_each_length_and_goes_on_where_it_was(drive, tmp_path, monkeypatch):
    words = ("--batch=2", "--widths", "32")
    page = drive(versus_ar, *words, "--lengths", "8", "5")
    assert [row[0] for row in table_rows(page, 10)] == ["5", "8"]
    assert [row[0] for row in table_rows(page, 4)] == ["32", "64"]
    assert "(NFE 10)" in page
    assert "(NFE 1)" in page
    assert (tmp_path / "versus_ar.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(versus_ar, "Race", None)
    assert drive(versus_ar, *words, "--lengths", "5", "8") == page
    later = drive(versus_ar, *words, "--lengths", "5", "8", "12", "--minutes=0")
    assert later.startswith(page)
    assert "Not measured for lack of time: length 12." in later


@pytest.mark.parametrize("words", [["--lengths", "2"], ["--lengths", "600"], ["--batch", "0"], ["--precision", "fp8"]])
def test_what_a_benchmark_cannot_do_is_told_in_a_line(words, capsys):
    with pytest.raises(SystemExit) as stop:
        versus_ar.main(words)
    assert stop.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert words[0] in line
    assert words[1] in line


@pytest.mark.parametrize("mode", ["fp32", "autocast", "bf16"])
@pytest.mark.parametrize("beams", [1, 3])
def test_blip_is_forced_to_a_length_and_keeps_keys_and_values(mode, beams):
    model, run = opponent(mode)
    given, made = [], []
    decoder = model.text_decoder
    decoder.bert.embeddings.register_forward_pre_hook(
        lambda _, args, kwargs: given.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    decoder.bert.encoder.layer[1].crossattention.self.key.register_forward_hook(lambda *_: made.append(1))
    ids, captions = run(pictures(2, TOY)[0], 9, beams)
    assert ids.shape == (2, 9)
    assert not (ids == model.config.text_config.sep_token_id).any()
    assert len(captions) == 2
    assert given == [(2 * beams, 1)] * 9
    assert len(made) == 1


def test_both_read_pictures_through_the_same_encoder():
    encoder, tokenizer, images = image_encoder(TOY), text_space(TOY, 12).tokenizer, pictures(2, TOY)[0]
    model, seen = blip(encoder, tokenizer, TOY), []
    model.text_decoder.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["encoder_hidden_states"]), with_kwargs=True
    )
    captioning(model, tokenizer, "fp32")(images, 4)
    assert torch.equal(seen[0], encoder(images))


def test_a_model_that_is_set_to_a_length_is_one_that_was_built_for_it():
    images, ids = pictures(2, TOY)
    built = runner(full_size(2, size=TOY, length=7))(images, ids)
    run = at_length(full_size(2, size=TOY, length=24), 7)
    assert torch.equal(runner(run)(images, ids).latents, built.latents)
    assert built.latents.shape == (2, 7, 32)


def test_the_plain_loop_makes_our_latents():
    model, (images, ids) = full_size(3, size=TOY), pictures(2, TOY)
    torch.testing.assert_close(plain_loop(model, images, ids), runner(model)(images, ids).latents, atol=1e-5, rtol=1e-4)


def test_measurements_of_other_conditions_are_not_taken_for_these(tmp_path):
    file = tmp_path / "rows.jsonl"
    Rows(file, batch=1).add({"length": 8}, {"seconds": 1.0})
    assert Rows(file, batch=1).get({"length": 8})["seconds"] == 1.0
    assert Rows(file, batch=2).get({"length": 8}) is None
    line = json.loads(file.read_text())
    line["cell"]["machine"] = "another"
    file.write_text(json.dumps(line) + "\n")
    assert Rows(file, batch=1).get({"length": 8}) is None
