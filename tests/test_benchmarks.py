"""The benchmarks of the full-size model, driven at toy size: their pages, what they compare, and that it is equal."""

import importlib
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tiny_run import TOKENIZER, tiny_config, write_config

from benchmarks import (
    choosing,
    generation,
    gpu,
    memory,
    pages,
    paragraph_study,
    scaling,
    study_latency,
    training_profile,
    training_step,
    versus_ar,
)
from benchmarks.blip import blip, captioning, in_mode
from benchmarks.full_size import (
    SIZES,
    at_length,
    full_size,
    image_encoder,
    ours,
    pictures,
    plain_loop,
    runner,
    text_space,
)
from benchmarks.peak import Memory, peak
from benchmarks.plain_training import plain_loss
from benchmarks.rows import Rows
from benchmarks.training_step import Training
from ladic import captioner_base
from ladic.datamodules.shapes import Scene, SceneObject, check
from ladic.draws import StepDraws
from ladic.metrics.functional.cider import DocumentFrequencies

TOY = SIZES["toy"]


@pytest.fixture
def drive(tmp_path, capsys):
    """Runs a benchmark's ``main`` at toy size into ``tmp_path``; the page that it writes."""

    def run(benchmark, *words):
        name = benchmark.__name__.rpartition(".")[2]
        page = tmp_path / f"{name}.md"
        benchmark.main(["--size=toy", f"--work={tmp_path / 'work'}", f"--page={page}", *words])
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
    words = ("--batch=2", "--rounds=1", "--widths", "32")
    page = drive(versus_ar, *words, "--lengths", "8", "5")
    assert [row[0] for row in table_rows(page, 13)] == ["5", "8"]
    assert [row[0] for row in table_rows(page, 4)] == ["32", "64"]
    assert "(NFE 10)" in page
    assert "(NFE 5 and 1)" in page
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
    torch.testing.assert_close(plain_loop(model, images, ids), ours(model, images, ids), atol=1e-5, rtol=1e-4)


def test_measurements_of_other_conditions_are_not_taken_for_these(tmp_path):
    file = tmp_path / "rows.jsonl"
    Rows(file, batch=1).add({"length": 8}, {"seconds": 1.0})
    assert Rows(file, batch=1).get({"length": 8})["seconds"] == 1.0
    assert Rows(file, batch=2).get({"length": 8}) is None
    line = json.loads(file.read_text())
    line["cell"]["machine"] = "another"
    file.write_text(json.dumps(line) + "\n")
    assert Rows(file, batch=1).get({"length": 8}) is None


@pytest.mark.parametrize("dropped", [[], [1, 2]])
@pytest.mark.parametrize("conditioned", [False, True])
def test_the_plain_training_step_has_our_loss(conditioned, dropped):
    training = Training(TOY, 4, dropout=False)
    model, drawn = training.model, training.draws(conditioned)
    draws = StepDraws(torch.isin(torch.arange(4), torch.tensor(dropped)), drawn.times, drawn.noise, drawn.conditioned)
    batch = {**training.batch, "image_tokens": model.image_encoder(training.images)}
    loss, plain = model.losses(batch, draws)["loss"], plain_loss(model, training.images, training.text, draws)
    torch.testing.assert_close(loss, plain, atol=0, rtol=1e-5)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for one, other in zip(torch.autograd.grad(loss, parameters), torch.autograd.grad(plain, parameters), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_the_plain_step_reads_the_pictures_in_every_pass_and_ours_never():
    training, passes = Training(TOY, 2), []
    training.ours("fp32")  # what stands for no image is encoded once
    training.model.image_encoder.register_forward_hook(lambda *_: passes.append(1))
    counts = []
    for step in training.steps().values():
        passes.clear()
        before = [parameter.detach().clone() for parameter in training.model.denoiser.parameters()]
        step()
        counts.append(len(passes))
        after = training.model.denoiser.parameters()
        assert not any(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert counts == [1, 2, 1, 2, 0, 1]  # the last: no image, once more in bf16


def test_the_page_of_a_training_step(drive, monkeypatch):
    monkeypatch.setattr(training_step, "peak", here)
    page = drive(training_step, "--batch=4", "--rounds=1")
    assert "Target: 4 times as fast" in page
    apart = float(re.search(r"earlier estimates: (\S+) at most", page)[1])
    assert apart < 1e-5
    assert page.count("ours, bf16") == page.count("ours, fp32") == 2


def test_generation_keeps_its_cases_and_counts_against_the_plain_loop(drive, monkeypatch):
    monkeypatch.setattr(captioner_base, "compile_parts", lambda model: None)  # half a minute
    monkeypatch.setattr(generation, "matmul_peak", lambda dtype: 1e12)
    page = drive(generation, "--rounds=1", "--cases", "1x5")
    rows = [row for row in table_rows(page, 10) if row[3] != "plain loop, fp32"]
    assert [row[3] for row in rows] == ["fp32", "bf16", "bf16, compiled"]
    assert float(rows[0][8]) < 1e-5
    monkeypatch.setattr(generation, "measured", None)
    assert drive(generation, "--rounds=1", "--cases", "1x5") == page


def test_the_page_of_a_gpu_on_a_processor(drive, monkeypatch):
    monkeypatch.setattr(captioner_base, "compile_parts", lambda model: None)
    monkeypatch.setattr(gpu, "LENGTHS", (5, 8))
    monkeypatch.setattr(gpu, "STEPS", (2, 3))
    page = drive(gpu, "--device=cpu", "--batches", "1", "2", "3", "--rounds=1")
    assert {row[:2] == ["1", "2"] for row in table_rows(page, 9)} == {True, False}
    for row in (line.strip("| ").split(" | ") for line in page.splitlines() if "| fp32 |" in line):
        assert float(row[-1]) < 1e-5
    assert page.count("guided, compiled") == 2
    assert "losses apart in fp32" in page
    assert "Not measured" not in page
    later = drive(gpu, "--device=cpu", "--batches", "1", "2", "9", "--rounds=1", "--minutes=0")
    assert "Not measured for lack of time: versus of 9 pictures of 5 tokens, versus of 9" in later


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_benchmark_says_so(capsys):
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "--device cuda: PyTorch sees no GPU; give --device cpu --size toy" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["1", "0", "256"], ["1", "256"], ["1", "x", "2"], ["1", "1", "2"]])
def test_batches_of_the_gpus_page_are_three_that_rise(words, capsys):
    with pytest.raises(SystemExit) as stop:
        gpu.main(["--device=cpu", "--size=toy", "--batches", *words])
    assert stop.value.code == 2
    assert "--batches" in capsys.readouterr().err.splitlines()[-1]


def test_without_git_a_page_names_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert pages.commit() == ""


def here(function, **arguments):
    """``peak`` without a process of its own."""
    module, _, name = function.partition(":")
    getattr(importlib.import_module(module), name)(**arguments)()
    return Memory(1.0, 2.0)


def test_memory_has_a_row_for_each_length_and_batch(drive, monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "peak", here)
    page = drive(memory, "--batches", "2", "1", "--lengths", "24", "8", "--candidates", "3")
    one = [(what, n, batch, "1") for what in ("captioning", "training") for n in ("8", "24") for batch in ("1", "2")]
    several = [("captioning", length, "2", "3") for length in ("8", "24")]
    assert re.findall(r"^\| (\w+) \| (\d+) \| (\d+) \| (\d+) \|", page, re.M) == one + several
    assert (tmp_path / "memory.png").is_file()


def test_the_peak_is_that_of_the_function_alone_in_a_process_of_its_own(monkeypatch, tmp_path):
    ballast = bytearray(b"1") * (200 << 20)  # which a child would count as its own
    (tmp_path / "target.py").write_text("def hold(size):\n    return lambda: bytearray(b'1') * (size << 20)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    few, many = (peak("target:hold", size=size) for size in (1, 300))
    assert 0.28 < many.peak - few.peak < 0.32
    assert few.peak < len(ballast) / 2**30
    with pytest.raises(SystemExit, match=r"target:hold \{'size': 'x'\}: TypeError"):
        peak("target:hold", size="x")


def test_scaling_has_a_table_for_each_of_four(drive, tmp_path):
    flags = ["--lengths", "8", "5", "--candidates", "1", "2", "--batches", "1", "3", "--image-sizes", "32", "48"]
    page = drive(scaling, "--batch=2", "--rounds=1", *flags)
    assert [row[0] for row in table_rows(page, 4)] == ["5", "8", "1", "2", "1", "3", "32", "48"]
    assert (tmp_path / "scaling.png").is_file()


def test_a_profile_adds_up_and_before_is_what_a_step_was(cli, tmp_path, monkeypatch, capsys):
    config = tiny_config(tmp_path)
    config["model"]["latent_space"]["init_args"]["remember"] = 100
    config["trainer"]["callbacks"].append({"class_path": "ladic.callbacks.WeightAverage", "init_args": {"decay": 0.5}})
    file, began, real = write_config(tmp_path, config), [], subprocess.run

    def run(words, **options):
        if "fit" not in words:
            return real(words, **options)  # git
        began.append(yaml.safe_load(Path(words[words.index("-c") + 1]).read_text()))
        done = cli(*words[3:])
        return subprocess.CompletedProcess(words, done.code, done.stdout, done.stderr)

    monkeypatch.setattr(training_profile.subprocess, "run", run)
    page = tmp_path / "page.md"
    words = [f"--config={file}", "--steps=2", "--rounds=1", f"--work={tmp_path / 'work'}", f"--page={page}"]
    training_profile.main([*words, "--", "--data.batch_size=2"])
    before, after = began
    assert before["trainer"]["callbacks"][-1]["class_path"].endswith("EMAWeightAveraging")
    assert "remember" not in before["model"]["latent_space"]["init_args"]
    assert after["model"]["latent_space"]["init_args"]["remember"] == 100
    rows = dict(re.findall(r"\| ([a-z ]+) \| (\d+) \| \d+ \|", page.read_text()))
    assert list(rows) == list(training_profile.PHASES)
    *parts, whole = map(int, rows.values())
    assert abs(sum(parts) - whole) <= 3, "milliseconds, rounded"
    assert min(int(rows["forward"]), int(rows["backward"])) > 0


def test_a_paragraph_repeats_claims_and_names():
    scene = Scene((SceneObject("circle", "red", "small", "plain", 0.2, 0.5),), "grey", False)
    said = "there is one object . a red circle is on the right . there is one object ."
    assert paragraph_study.measures(said, check(said, scene))[:3] == [(1, 3), (3, 4), (1, 1)]


def test_a_choice_is_the_true_score_of_the_best_and_others_are_the_pictures_left(tmp_path):
    scores, true = np.array([[[1.0, 3.0], [2.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]]), np.arange(8.0).reshape(2, 2, 2)
    assert choosing.chosen(scores, true) == (1 + 7) / 2
    frequencies = DocumentFrequencies.from_references([["a dog runs"], ["a cat"], ["the bird sits"]])
    first, second, odd = choosing.agreement(["a dog runs", "a dog runs", "the bird"], frequencies)
    assert first == second > odd
    folder = tmp_path / "plus" / "seed-0"
    folder.mkdir(parents=True)
    entries = [
        {"image_id": name, "scores": {"CIDEr-D": value}} for name, value in (("1", 9.0), ("2", 0.5), ("3", 0.25))
    ]
    (folder / "per_image_test.json").write_text(json.dumps(entries))
    assert choosing.others(tmp_path, ["1"])[-1] == "| plus | 1 | 0.3750 | 0.3750 |"
    assert choosing.others(tmp_path / "none", ["1"]) == []


def test_choosing_without_its_run_says_what_to_do_first(tmp_path, capsys):
    with pytest.raises(SystemExit):
        choosing.main([f"--study={tmp_path}"])
    assert "first: ladic sweep configs/study/flickr8k_study.yaml" in capsys.readouterr().err


def test_rows_of_a_study_are_forced_to_lengths(tmp_path, capsys, monkeypatch):
    write_config(tmp_path)
    file = tmp_path / "study.yaml"
    theirs = {
        "class_path": "AutoregressiveCaptioner",
        "init_args": {"tokenizer": TOKENIZER, "length": 12, "beam_size": 2, "decoder": {"num_layers": 1}},
    }
    write_config(tmp_path, {"base": "tiny.yaml", "model": theirs}, "theirs.yaml")
    rows = {"ours": {"configs": ["tiny.yaml"]}, "theirs": {"configs": ["theirs.yaml"]}}
    rows["greedy"] = {"weights": "theirs", "flags": ["--model.beam_size=1"]}
    file.write_text(yaml.safe_dump({"output": str(tmp_path / "out"), "rows": rows}, sort_keys=False))
    said = []
    original = study_latency.caption
    monkeypatch.setattr(study_latency, "caption", lambda *words: said.append(words) or original(*words))
    words = [f"--sweep={file}", "--only=ours,theirs,greedy", "--batch=2", "--rounds=1", f"--work={tmp_path / 'work'}"]
    study_latency.main([*words, f"--page={tmp_path / 'page.md'}", "--lengths", "5", "16"])
    page = (tmp_path / "page.md").read_text()
    first, second, *evaluations = table_rows(page, 4)
    assert [first[0], second[0]] == ["5", "16"]
    assert evaluations == [["5", "4", "8", "4"], ["16", "4", "30", "15"]]  # ours guided, in two steps
    assert {captioner.length for captioner, _, _ in said} == {5, 16}
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
    said.clear()
    study_latency.main([*words, f"--page={tmp_path / 'page.md'}", "--lengths", "16", "5"])
    assert ((tmp_path / "page.md").read_text(), said) == (page, []), "what is known is not measured again"
    capsys.readouterr()
    with pytest.raises(SystemExit):
        study_latency.main([*words, "--lengths", "2"])
    assert "--lengths 2: accepted are 3 and more" in capsys.readouterr().err
