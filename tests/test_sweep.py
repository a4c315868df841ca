"""Sweeps through the real command line at a tiny size: cut off and resumed, failing, changed, by hand, as an array."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from forked import ForkedLadic
from tiny_run import error_line
from tiny_sweep import sweep_config, sweep_file

from ladic.captioner import LatentDiffusionCaptioner
from ladic.checkpoints import read_checkpoint
from ladic.plots import read_curves
from ladic.sweep import Runner, is_finished, read_sweep


@pytest.fixture(autouse=True, scope="module")
def forked():
    """Commands of sweeps are forked; one in a process of its own is `test_the_commands_of_a_dry_run…`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ladic.sweep.running.Popen", ForkedLadic)
        yield


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The folder of a sweep that was stopped in its first run and started again, with what each sitting said."""
    from ladic.cli.main import main

    folder = tmp_path_factory.mktemp("sweep")
    sweep_config(folder, folder / "stopped")
    file = sweep_file(folder)
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        for _ in range(2):
            with (folder / "said.txt").open("w") as screen:
                patch.setattr(sys, "stdout", screen)
                try:
                    main(["sweep", str(file)])
                    code = 0
                except SystemExit as stop:
                    code = stop.code
                patch.undo()
                patch.setenv("PYTHONPATH", str(Path(__file__).parent))
            record = folder / "out/ddim/seed-0/sweep.json"
            said.append((code, (folder / "said.txt").read_text(), json.loads(record.read_text())["done"]))
    return folder, said


def runs(folder):
    return [folder / "out" / row / f"seed-{seed}" for row in ("ddim", "renoise") for seed in (0, 1)]


def test_a_sweep_that_is_stopped_saves_and_goes_on_with_the_same_command(swept):
    folder, ((first, told, done), (second, told_then, done_then)) = swept
    assert first == 128 + signal.SIGTERM
    assert "prepare fit-frequencies: begins" in told
    assert "[1/4] ddim, seed 0: stopped; the same command goes on from here" in told
    assert done == []
    assert "wrote" not in told, "no table of what is under way"
    assert second == 0
    assert "counts.json.gz is there already" in told_then
    for number, name in enumerate(("ddim, seed 0", "ddim, seed 1", "renoise, seed 0", "renoise, seed 1")):
        assert f"[{number + 1}/4] {name}: finished in " in told_then
    assert [each["command"] for each in done_then] == ["fit", "test"]
    assert "results.png: 4 of 4 runs" in told_then
    log = (folder / "out/ddim/seed-0/log.txt").read_text()
    assert log.count("$ ladic fit ") == 2
    assert "stopped at step 2" in log
    assert "begins at step 2" in log
    saved = [file.parent for file in (folder / "out/ddim/seed-0").rglob("*.ckpt") if file.name != "resume.ckpt"]
    assert len(set(saved)) == 1, "both sittings save into one folder, so that the second knows the best of the first"
    for run in runs(folder):
        assert read_checkpoint(run)["global_step"] == 4
        assert json.loads((run / "scores_test.json").read_text())["seeds"]["seed_everything"] == int(run.name[-1])


def test_what_is_finished_is_skipped(swept, cli):
    folder, _ = swept
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*.ckpt")}
    done = cli("sweep", folder / "study.yaml")
    assert done.code == 0, done.stderr
    assert done.stdout.count(": finished before") == 4
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*.ckpt")} == before


def test_the_table_is_numpys(swept, cli):
    folder, _ = swept
    done = cli("sweep", folder / "study.yaml", "--gather")
    assert done.code == 0, done.stderr
    assert "4 of 4 runs" in done.stdout
    with (folder / "out/results.csv").open(newline="") as lines:
        table = list(csv.DictReader(lines))
    assert [(line["row"], line["seed"]) for line in table] == [(r, s) for r in ("ddim", "renoise") for s in ("0", "1")]
    for line, run in zip(table, runs(folder), strict=True):
        facts = json.loads((run / "scores_test.json").read_text())
        for name, value in facts["scores"].items():
            assert float(line[name]) == value
        assert float(line["seconds_per_image"]) == facts["seconds_per_image"]
        steps = 2 if line["row"] == "ddim" else 3
        assert float(line["nfe_per_image"]) == 2 * steps, "of one candidate, guided"
        assert float(line["steps"]) == 4
        clock = read_checkpoint(run)["callbacks"]["TrainingClock"]["seconds"]
        assert float(line["minutes"]) == pytest.approx(clock / 60, abs=1e-4), "of the weights that were tested"
        assert float(line["minutes"]) == pytest.approx(read_curves(run)["train/minutes"][-1][1], abs=1e-2)
        model = LatentDiffusionCaptioner.load_from_checkpoint(run)
        trained = [part for part in model.parameters() if part.requires_grad]
        assert float(line["trained_parameters"]) == sum(part.numel() for part in trained) > 0
    page = (folder / "out/results.md").read_text()
    head, _, *rows = [line for line in page.splitlines() if line.startswith("|")]
    names = [name.strip() for name in head.strip("|").split("|")]
    for row, lines in zip(rows, (table[:2], table[2:]), strict=True):
        cells = dict(zip(names, [text.strip() for text in row.strip("|").split("|")], strict=True))
        assert cells["n"] == "2"
        for name in ("BLEU-4", "CIDEr-D", "seconds_per_image"):
            values = np.array([float(line[name]) for line in lines])
            spread = values.std(ddof=1)
            assert cells[name] == f"{values.mean():.4f} ± {spread:.4f}"
    assert f"Gathered by `ladic sweep {folder}/study.yaml --gather`" in page
    assert "seeds 0, 1" in page
    assert "- trained with batch 8 in 32-true, captioned with batch 64 in 32-true\n" in page
    done = json.loads((folder / "out/ddim/seed-0/sweep.json").read_text())["done"]
    for name, told in zip(("fit", "test"), done, strict=True):
        (line,) = [line for line in page.splitlines() if line.startswith(f"- {name}: ")]
        assert line.startswith(f"- {name}: {told['machine']}")
        assert f"; commit {told['commit'] or 'unknown'}" in line
        assert line.endswith(f"; {told['date']}")
    assert (folder / "out/results.png").read_bytes().startswith(b"\x89PNG")


def test_a_row_that_has_changed_is_told_and_not_reused(swept, cli, tmp_path):
    folder, _ = swept
    rows = {"ddim": None, "renoise": {"flags": ["--model.sampler=RenoiseSampler", "--model.sampler.num_steps=5"]}}
    file = sweep_file(folder, "changed.yaml", rows=rows)
    done = cli("sweep", file)
    assert done.code == 1
    assert done.stdout.count(": finished before") == 2, "those of the other row"
    told = [line for line in done.stderr.splitlines() if line.startswith("[")]
    assert len(told) == 2
    assert "[3/4] renoise, seed 0: the row has changed since" in told[0]
    assert "model.sampler.num_steps was 3 and is 5" in told[0]
    gathered = cli("sweep", file, "--gather")
    assert gathered.code == 1
    assert "renoise, seed 1: left out: the row has changed" in gathered.stderr
    assert "2 of 4 runs" in gathered.stdout
    assert "renoise" not in (folder / "out/results.csv").read_text()


def test_what_was_requeued_makes_no_table(swept, cli, monkeypatch):
    folder, _ = swept

    def requeued(runner):
        runner.stopped = True
        return 0

    monkeypatch.setattr(Runner, "run", requeued)
    done = cli("sweep", folder / "study.yaml")
    assert (done.code, done.stdout) == (0, "")


def test_a_part_that_is_run_leaves_the_table_whole(swept, cli):
    folder, _ = swept
    done = cli("sweep", folder / "study.yaml", "--only=renoise", "--seeds=1")
    assert done.code == 0, done.stderr
    assert "[1/1] renoise, seed 1: finished before" in done.stdout
    assert "4 of 4 runs" in done.stdout
    assert len((folder / "out/results.csv").read_text().splitlines()) == 5
    assert f"`ladic sweep {folder}/study.yaml --only=renoise --seeds=1`" in (folder / "out/results.md").read_text()
    done = cli("sweep", folder / "study.yaml", "--only=renoise", "--gather")
    assert "2 of 2 runs" in done.stdout
    assert len((folder / "out/results.csv").read_text().splitlines()) == 3


def test_a_score_that_nobody_validated_is_told_and_no_figure_of_before_stays(swept, cli):
    folder, _ = swept
    assert cli("sweep", folder / "study.yaml", "--gather").code == 0
    assert (folder / "out/results.png").is_file()
    done = cli("sweep", sweep_file(folder, "mistyped.yaml", metric="CIDER-D"), "--gather")
    assert "metric='CIDER-D': no figure: no score called 'CIDER-D'; did you mean CIDEr-D?" in done.stderr
    assert "4 of 4 runs" in done.stdout
    assert not (folder / "out/results.png").exists()
    assert "results.png" not in (folder / "out/results.md").read_text()


def test_a_damaged_log_costs_the_curves_and_not_the_scores(swept, cli):
    folder, _ = swept
    log = next((folder / "out/ddim/seed-1").rglob("metrics.csv"))
    before = log.read_text()
    log.write_text("step,train/loss\n1,2.5\ntwo,2.5\n")
    done = cli("sweep", folder / "study.yaml", "--gather")
    log.write_text(before)
    assert done.code == 1
    assert f"ddim, seed 1: no curves: '{log}': not numbers that `ladic fit` logged (" in done.stderr
    assert "4 of 4 runs" in done.stdout


def test_the_same_options_said_otherwise_are_the_same_row(swept, tmp_path):
    folder, _ = swept
    shutil.copy(folder / "tiny.yaml", tmp_path)
    sampler = {"class_path": "RenoiseSampler", "init_args": {"num_steps": 3}}
    (tmp_path / "more.yaml").write_text(yaml.safe_dump({"base": "tiny.yaml", "model": {"sampler": sampler}}))
    one = read_sweep(folder / "study.yaml").rows[1]
    other = read_sweep(sweep_file(tmp_path, configs=["more.yaml"], rows={"renoise": None})).rows[0]
    assert one.definition() == other.definition()


def test_a_failing_row_is_told_in_a_line_and_the_others_go_on(swept, cli, monkeypatch):
    folder, _ = swept
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # of the callback, for the command that fails
    rows = {
        "typo": {"flags": ["--model.sampler=Zebra"]},
        "late": {"commands": ["fit", "test --model.num_candidats=5"]},
        "unfit": {"flags": ["--model.latent_space.fitted=nowhere.safetensors"]},
        "ddim": None,
    }
    done = cli("sweep", sweep_file(folder, "failing.yaml", rows=rows, seeds=[0]))
    assert done.code == 1
    typo, late, unfit = [line for line in done.stderr.splitlines() if line.startswith("[")]
    assert typo.startswith("[1/4] typo, seed 0: error: ")
    assert "Zebra" in typo
    assert late.startswith("[2/4] late, seed 0: error: ")
    assert "num_candidats" in late
    assert not (folder / "out/late").exists(), "told before anything is trained"
    log = folder / "out/unfit/seed-0/log.txt"
    assert unfit.startswith("[3/4] unfit, seed 0: fit ended with 2: error: fitted='nowhere.safetensors': no such file")
    assert unfit.endswith(f"log: {log}")
    assert "[4/4] ddim, seed 0: finished before" in done.stdout


def test_the_commands_of_a_dry_run_make_the_same_by_hand(swept, cli, tmp_path):
    folder, _ = swept
    program = Path(sys.executable).with_name("ladic")
    if not program.is_file():
        pytest.skip("no console script beside this Python")
    file = sweep_file(folder, "by hand.yaml", output=str(tmp_path / "by hand"))
    done = cli("sweep", file, "--dry-run", "--only=renoise", "--seeds=1")
    assert done.code == 0
    prepare, line = done.stdout.splitlines()
    assert prepare.startswith("ladic fit-frequencies ")
    assert not (tmp_path / "by hand").exists(), "nothing was done"
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    environment["PYTHONPATH"] = str(Path(__file__).parent)
    ran = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    names = [f"{kind}_test.json" for kind in ("results", "references", "per_image")]
    by_hand, by_sweep = tmp_path / "by hand/renoise/seed-1", folder / "out/renoise/seed-1"
    assert [(by_hand / name).read_text() for name in names] == [(by_sweep / name).read_text() for name in names]


def test_an_array_runs_the_run_of_its_task(swept, cli, monkeypatch):
    folder, _ = swept
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    told = cli("sweep", folder / "study.yaml", "--only=renoise", "--array")
    assert told.code == 0
    lines = [line.split() for line in told.stdout.splitlines()]
    (submit,) = [line for line in lines if line[0] == "sbatch"]
    assert submit[1] == "--array=0-1"
    assert Path(submit[2]).is_file()
    assert submit[3:] == [str(folder / "study.yaml"), "--only=renoise"]
    assert ["1", "renoise,", "seed", "1"] in lines
    assert subprocess.run(["bash", "-n", submit[2]]).returncode == 0
    done = cli("sweep", folder / "study.yaml", "--array=2")
    assert (done.code, done.stdout.splitlines()[1:]) == (0, ["[1/1] renoise, seed 0: finished before"])
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    done = cli("sweep", folder / "study.yaml", "--array")
    assert "[1/1] ddim, seed 1: finished before" in done.stdout
    refused = cli("sweep", folder / "study.yaml", "--array=4")
    assert (refused.code, error_line(refused.stderr)) == (2, "--array 4: accepted are 0 to 3, the sweep's tasks")


def test_tasks_side_by_side_are_those_of_the_array_and_the_table_is_of_all(swept, cli, monkeypatch):
    folder, _ = swept
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    last = "renoise, seed 1"  # is given to a process of its own, which finds it finished
    monkeypatch.setattr("ladic.cli.sweep.is_finished", lambda run: str(run) != last and is_finished(run))
    (folder / "out/results.csv").unlink(missing_ok=True)
    done = cli("sweep", folder / "study.yaml", "--jobs=2")
    assert done.code == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[:3] == [f"{run}: finished before" for run in ("ddim, seed 0", "ddim, seed 1", "renoise, seed 0")]
    assert f"1/1 [1/1] {last}: finished before" in said
    assert said[-1].endswith("4 of 4 runs")
    assert (folder / "out/results.csv").is_file()


def test_a_row_that_tests_the_weights_of_another(swept, cli, tmp_path):
    folder, _ = swept
    rows = yaml.safe_load((folder / "study.yaml").read_text())["rows"]
    rows |= {"new": None, "untrained": {"weights": "new"}}
    rows |= {"two": {"weights": "ddim", "flags": ["--model.num_candidates=2"]}}
    file = sweep_file(folder, "more.yaml", rows=rows)
    done = cli("sweep", file, "--only=untrained", "--seeds=0")
    assert done.code == 1
    assert "untrained, seed 0: new has its weights and is not trained yet; run that row first" in done.stderr
    done = cli("sweep", file, "--only=two", "--seeds=1")
    assert "[1/1] two, seed 1: finished in " in done.stdout, done.stderr
    log = (folder / "out/two/seed-1/log.txt").read_text()
    assert log.count("$ ladic") == 1, "no training"
    facts, before = (json.loads((folder / f"out/{row}/seed-1/scores_test.json").read_text()) for row in ("two", "ddim"))
    assert facts["checkpoint"] == before["checkpoint"]
    assert (facts["rows"], before["rows"]) == (2, 1)
    with (folder / "out/results.csv").open(newline="") as lines:
        table = {(line["row"], line["seed"]): line for line in csv.DictReader(lines)}
    assert table["two", "1"]["minutes"] == table["ddim", "1"]["minutes"]


def score_of(run):
    return json.loads((run / "scores_test.json").read_text())["scores"]["CIDEr-D"]


def test_the_page_of_a_study_is_made_of_its_runs(swept, tmp_path, monkeypatch):
    from benchmarks import flickr8k_study  # not above: runs by hand import this file from elsewhere

    folder, _ = swept
    rows = yaml.safe_load((folder / "study.yaml").read_text())["rows"]
    file = sweep_file(folder, "page.yaml", rows={**rows, "unfinished": {"flags": ["--model.num_candidates=3"]}})
    monkeypatch.setattr(flickr8k_study, "OPPONENT", "renoise")
    (tmp_path / "words.md").write_text("Nobody wins.\n")
    words = ["--sweep", str(file), "--page", str(tmp_path / "page.md"), "--words", str(tmp_path / "words.md")]
    monkeypatch.setattr(sys, "argv", ["flickr8k_study", *words])
    flickr8k_study.main()
    page = (tmp_path / "page.md").read_text()
    assert "4 of 6 runs are finished; seeds 0, 1" in page
    assert "\nNobody wins.\n" in page
    mean = np.mean([score_of(folder / f"out/ddim/seed-{seed}") for seed in (0, 1)])
    (line,) = [line for line in page.splitlines() if line.startswith("| ddim | 2 |")]
    assert line.split(" | ")[2].startswith(f"{mean:.4f} ± ")
    captions = json.loads((folder / "out/renoise/seed-0/results_test.json").read_text())
    assert f"    - renoise: {captions[0]['caption']}" in page
    for seed in (0, 1):
        assert f"| ddim | {seed} | " in page.partition("less that of `renoise`")[2]
    for figure in ("page_training.png", "page_lengths.png"):
        assert (tmp_path / figure).read_bytes().startswith(b"\x89PNG")
        assert f"]({figure})" in page


def test_the_page_of_single_changes_tells_how_far_each_is_from_the_first_row(swept, tmp_path, monkeypatch):
    from benchmarks import switches

    folder, _ = swept
    (tmp_path / "words.md").write_text("Nobody wins.\n")
    words = ["--sweep", str(folder / "study.yaml"), "--page", str(tmp_path / "page.md")]
    monkeypatch.setattr(sys, "argv", ["switches", "tables_study", *words, "--words", str(tmp_path / "words.md")])
    switches.main()
    page = (tmp_path / "page.md").read_text()
    assert "Made by `python -m benchmarks.switches tables_study`" in page
    means = {
        row: np.mean([score_of(folder / f"out/{row}/seed-{seed}") for seed in (0, 1)]) for row in ("ddim", "renoise")
    }
    (line,) = [line for line in page.splitlines() if line.startswith("| renoise | ddim |")]
    *_, difference, interval, what, _ = line.split("|")
    assert float(difference) == pytest.approx(means["renoise"] - means["ddim"], abs=6e-5)
    low, high = map(float, interval.split(" to "))
    assert low <= float(difference) <= high
    assert what.strip() == "`sampler=RenoiseSampler`, `sampler.num_steps=3`"
    monkeypatch.setattr(sys, "argv", ["switches", "flickr8k_study"])
    with pytest.raises(SystemExit, match="name a study first: ablation_study or tables_study"):
        switches.main()


def test_the_page_of_paragraphs_tells_what_is_true_by_length(swept, tmp_path, monkeypatch):
    from benchmarks import paragraph_study

    folder, _ = swept
    (tmp_path / "words.md").write_text("Nobody wins.\n")
    words = ["--sweep", str(folder / "study.yaml"), "--page", str(tmp_path / "page.md")]
    monkeypatch.setattr(sys, "argv", ["paragraph_study", *words, "--words", str(tmp_path / "words.md")])
    paragraph_study.main()
    page = (tmp_path / "page.md").read_text()
    facts = json.loads((folder / "out/ddim/seed-0/results_test.json").read_text())
    for measure in paragraph_study.MEASURES:
        assert f"| ddim | {measure} | " in page
    assert len(facts) == sum(map(int, re.findall(r"\((\d+)\) \|", page.partition("| row | share of |")[2])))
    assert f"    - ddim: {facts[0]['caption']}" in page
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
