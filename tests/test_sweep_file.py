"""What may stand in a sweep file and beside it, and what becomes of it."""

import os
import shlex
from concurrent.futures import ThreadPoolExecutor

import pytest
from tiny_run import error_line, sweep_writer

from ladic.json_files import write_whole
from ladic.sweep import read_sweep
from ladic.sweep.definition import max_time
from ladic.sweep.results import cell


@pytest.fixture
def write(tmp_path):
    return sweep_writer(tmp_path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"row": {}}, "row: no key called 'row'; did you mean rows?"),
        ({"rows": {"a": {"config": ["x"]}}}, "rows.a.config: no key called 'config'; did you mean configs?"),
        ({"rows": {"a": 3}}, "rows.a=3: accepted are the keys configs, flags, commands, seeds"),
        (
            {"rows": {"a": {"weights": "b"}, "b": None}},
            "rows.a.weights='b': accepted is a row above that trains: there",
        ),
        ({"rows": {"a": None, "b": {"weights": "c"}}}, "rows.b.weights='c': accepted is a row above that trains: a"),
        ({"rows": {"a": None, "b": {"weights": "a", "seeds": [1]}}}, "rows.b.seeds=[1]: accepted is nothing: they are"),
        ({"rows": {"a": None, "b": {"weights": "a", "minutes": 2}}}, "rows.b.minutes=2: accepted is nothing: they are"),
        (
            {"rows": {"a": {"teacher": "b"}, "b": None}},
            "rows.a.teacher='b': accepted is a row above that trains",
        ),
        (
            {"rows": {"a": None, "b": {"teacher": "a", "seeds": [0, 3, 4]}}},
            "rows.b.seeds=[0, 3, 4]: accepted is those of its teacher; a has no 3",
        ),
        (
            {"rows": {"a": None, "b": {"weights": "a", "teacher": "a"}}},
            "rows.b.teacher='a': accepted is nothing: they are those of a, which trains",
        ),
        ({"rows": {"a": {"minutes": 0}}}, "rows.a.minutes=0: accepted is a number of minutes"),
        ({"rows": {"a": None, "b": {"weights": "a", "commands": ["fit"]}}}, "accepted is no fit: a trains"),
        (
            {"commands": ["fit"], "rows": {"a": None, "b": {"weights": "a"}}},
            "rows.b.commands=None: accepted is what is to be done: a trains alone",
        ),
        ({"rows": {}}, "rows={}: accepted is at least one row"),
        ({"rows": {"a/b": None}}, "rows='a/b': accepted is names of letters"),
        ({"output": "absent"}, "output=None: accepted is a folder"),
        ({"minutes": 0}, "minutes=0: accepted is a number of minutes"),
        ({"minutes": "long"}, "minutes='long': accepted is a number of minutes"),
        ({"checkpoint": "first"}, "checkpoint='first': accepted is best or last, of a run's checkpoints"),
        ({"seeds": [1, 1]}, "seeds=[1, 1]: accepted is a list of whole numbers from 0, each once"),
        ({"seeds": 3}, "seeds=3: accepted is a list of whole numbers"),
        ({"metric": 7}, "metric=7: accepted is a score"),
        ({"configs": ["smal.yaml"]}, "configs='smal.yaml': accepted is a file in '"),
        ({"configs": "absent"}, "rows.a.configs=[]: accepted is a list of YAML files, here or at the top"),
        ({"flags": ["--model.seed"]}, "flags='--model.seed': accepted is a list of flags as '--NAME=VALUE'"),
        ({"flags": ["--seed_everything=3"]}, "flags='--seed_everything=3': --seed_everything is set by 'seeds'"),
        (
            {"minutes": 5, "rows": {"a": {"flags": ["--trainer.max_steps=3"]}}},
            "rows.a.flags='--trainer.max_steps=3': --trainer.max_steps is set by 'minutes'; leave it out",
        ),
        (
            {"minutes": 5, "commands": ["fit --trainer.min_epochs=3"]},
            "commands='--trainer.min_epochs=3': --trainer.min_epochs is set by 'minutes'; leave it out",
        ),
        (
            {"flags": ["--trainer.default_root_dir=x"]},
            "--trainer.default_root_dir is set by the sweep itself, for each run's folder; leave it out",
        ),
        ({"commands": ["train"]}, "commands='train': accepted is a list of fit, validate, test, predict"),
        ({"commands": ["test --ckpt_path=x"]}, "--ckpt_path is set by the sweep itself"),
        ({"prepare": [{"command": "fit-space"}]}, "prepare.0.makes=None: accepted is given"),
        ({"prepare": [{"comand": "fit-space"}]}, "prepare.0.comand: no key called 'comand'; did you mean command?"),
        ({"prepare": [{"command": " ", "makes": "x"}]}, "prepare.0.command=' ': accepted is the words of a command"),
        ({"prepare": [{"command": "ladic", "makes": "x"}]}, "prepare.0.command='ladic': accepted is the words of a"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_in_a_line(cli, write, content, complaint):
    file = write(**content)
    done = cli("sweep", file, "--dry-run")
    assert done.code == 2
    told = error_line(done.stderr)
    assert told.startswith(f"sweep '{file}': ")
    assert complaint in told


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--only=b"], "--only: no row called 'b'; there are: a"),
        (["--seeds=x"], "--seeds x: accepted are whole numbers from 0"),
        (["--array=1", "--dry-run"], "--array 1: accepted are 0 to 0"),
        (["--array=0", "--gather"], "--gather: not together with --array; leave one of the two out"),
        (["--dry-run", "--gather"], "--gather: not together with --dry-run"),
        (["--jobs=2", "--gather"], "--gather: not together with --jobs"),
        (["--jobs=2", "--array"], "--array: not together with --jobs; leave one of the two out"),
        (["--jobs=0"], "--jobs 0: accepted are whole numbers from 1"),
    ],
)
def test_wrong_words_are_told(cli, write, words, complaint):
    done = cli("sweep", write(), *words)
    assert done.code == 2
    assert complaint in error_line(done.stderr)


def test_the_command_may_say_where_how_long_and_with_which_flags_beside_the_files(cli, write, tmp_path):
    rows = {"a": {"flags": ["--data.batch_size=8"]}, "b": {"minutes": 5}}
    file = write(minutes=30, flags=["--data.batch_size=4"], rows=rows)
    words = [f"--output={tmp_path}/gpu", "--minutes=2.5", "--flags=--data.batch_size=16 '--model.seed= 1'"]
    first, second = cli("sweep", file, "--dry-run", *words).stdout.splitlines()
    assert f"--trainer.default_root_dir={tmp_path}/gpu/a/seed-0" in first
    assert "--trainer.max_time=00:00:02:30" in first
    assert "--data.batch_size=4 --data.batch_size=16 '--model.seed= 1' --data.batch_size=8" in first
    assert "--trainer.max_time=00:00:05:00" in second, "a row's own minutes are its own"
    told = cli("sweep", file, "--array", *words).stdout
    assert shlex.join(words) in told


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("--minutes=0", "minutes=0.0: accepted is a number of minutes of training, at least a second"),
        ("--flags='--a=1", "--flags '--a=1: No closing quotation; accepted are flags as --NAME=VALUE"),
        ("--flags=a", "flags='a': accepted is a list of flags as '--NAME=VALUE'"),
        ("--output=", "output='': accepted is a folder for the runs"),
    ],
)
def test_what_the_command_says_beside_the_file_is_checked_as_well(cli, write, word, complaint):
    assert complaint in error_line(cli("sweep", write(), word).stderr)


def test_no_file_and_no_yaml(cli, tmp_path):
    assert "give a YAML file with 'rows:'" in error_line(cli("sweep", tmp_path / "none.yaml").stderr)
    (tmp_path / "bad.yaml").write_text("rows: [")
    assert "not YAML" in error_line(cli("sweep", tmp_path / "bad.yaml").stderr)
    (tmp_path / "list.yaml").write_text("- rows")
    assert "the file=['rows']: accepted are the keys output" in error_line(cli("sweep", tmp_path / "list.yaml").stderr)


def test_minutes_are_those_of_every_fit_or_a_rows_own_and_no_steps_end_it_before(cli, write, tmp_path):
    file = write(
        minutes=1.5,
        seeds=[0, 7],
        flags=["--data.batch_size=4"],
        rows={
            "a": {"flags": ["--model.caption_loss_weight=1 0"]},
            "b": {"commands": ["fit", "test --model.seed=3"], "seeds": [2], "minutes": 61},
        },
    )
    lines = cli("sweep", file, "--dry-run").stdout.splitlines()
    assert len(lines) == 3
    fit, test = (shlex.split(part) for part in lines[2].split(" && "))
    folder = tmp_path / "out" / "b" / "seed-2"
    shared = ["-c", str(tmp_path / "small.yaml"), "--data.batch_size=4", "--seed_everything=2"]
    shared += [f"--trainer.default_root_dir={folder}"]
    budget = ["--trainer.max_time=00:01:01:00", "--trainer.max_steps=-1", "--trainer.max_epochs=-1"]
    budget += ["--trainer.min_steps=null", "--trainer.min_epochs=null"]
    assert fit == ["ladic", "fit", *shared, *budget, "--ckpt_path=auto"]
    assert test == ["ladic", "test", *shared, "--model.seed=3", f"--ckpt_path={folder}"]
    assert "'--model.caption_loss_weight=1 0'" in lines[0]
    assert "--trainer.max_time=00:00:01:30" in lines[0]
    assert cli("sweep", file, "--dry-run", "--array=2").stdout.splitlines() == lines[2:]
    assert max_time(60 * 24 + 61) == "01:01:01:00"


def test_a_row_may_test_the_weights_of_another(cli, write, tmp_path):
    file = write(
        seeds=[0, 7],
        minutes=3,
        checkpoint="best",
        flags=["--data.batch_size=4"],
        rows={"a": {"flags": ["--model.seed=1"]}, "b": {"weights": "a", "flags": ["--model.num_candidates=5"]}},
    )
    lines = cli("sweep", file, "--dry-run").stdout.splitlines()
    assert len(lines) == 4
    words = ["-c", str(tmp_path / "small.yaml"), "--data.batch_size=4", "--model.seed=1", "--model.num_candidates=5"]
    words += ["--seed_everything=7", f"--trainer.default_root_dir={tmp_path}/out/b/seed-7"]
    assert shlex.split(lines[3]) == ["ladic", "test", *words, f"--ckpt_path=best:{tmp_path}/out/a/seed-7"]
    assert cli("sweep", file, "--dry-run", "--array=1").stdout.splitlines() == [lines[1], lines[3]], "one task"
    assert "    0  a, seed 0; b, seed 0" in cli("sweep", file, "--array").stdout.splitlines()
    (trains, tests) = read_sweep(file).rows
    assert tests.definition()["weights.model.seed"] == 1, "another training is another row"
    assert tests.definition()["minutes"] == trains.definition()["minutes"] == 3
    assert tests.definition()["checkpoint"] == trains.definition()["checkpoint"] == "best"


def test_a_row_may_learn_from_the_weights_of_another(cli, write, tmp_path):
    rows = {"a": {"seeds": [0, 7]}, "b": {"teacher": "a", "seeds": [7]}, "c": {"weights": "b"}}
    file = write(checkpoint="best", rows={**rows, "other": None})
    lines = [shlex.split(line) for line in cli("sweep", file, "--dry-run").stdout.splitlines()]
    student, tested = lines[2:4]
    taught = f"--model.teacher.checkpoint=best:{tmp_path}/out/a/seed-7"
    assert student.count(taught) == 2, "fit, and test as it was trained"
    assert tested.count(taught) == 1
    assert tested[-1] == f"--ckpt_path=best:{tmp_path}/out/b/seed-7"
    told = cli("sweep", file, "--array").stdout.splitlines()
    assert "    1  a, seed 7; b, seed 7; c, seed 7" in told, "a student waits for its teacher"
    assert "    2  other, seed 0" in told
    a, b, c, _ = read_sweep(file).rows
    assert b.definition()["teacher.commands"] == a.definition()["commands"]
    assert c.definition()["weights.teacher.commands"] == a.definition()["commands"]


def test_a_shipped_configuration_may_be_named(write):
    (row,) = read_sweep(write(configs=["demo", "trainer/cpu.yaml"])).rows
    assert [config.name for config in row.configs] == ["demo.yaml", "cpu.yaml"]
    assert all(config.is_file() for config in row.configs)


def test_an_output_that_cannot_be_written_to_is_told(cli, write, tmp_path):
    (tmp_path / "out").write_text("a file")
    file = write()
    told = error_line(cli("sweep", file).stderr)
    assert told.startswith(f"sweep '{file}': output='{tmp_path}/out': can't be written to (")


def test_spread_is_the_sample_standard_deviation():
    assert cell("BLEU-4", [0.1, 0.2, 0.6], 3) == "0.3000 ± 0.2646"
    assert cell("BLEU-4", [], 3) == ""
    assert cell("steps", [7.0, 7.0], 2) == "7 ± 0", "no spread is a result, too"
    assert cell("METEOR", [0.25], 3) == "0.2500 (n = 1)"


def test_a_result_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "results.csv"
    write_whole(file, b"old")

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        write_whole(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_several_may_write_a_result_at_the_same_time(tmp_path):
    file, contents = tmp_path / "results.csv", [bytes([letter]) * 2**16 for letter in b"abcd"]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda content: [write_whole(file, content) for _ in range(20)], contents))
    assert file.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [file]


def test_a_row_is_also_what_its_files_were_prepared_by(write, tmp_path):
    def definition(*commands, **more):
        names = ("text", "space.pt", "other.pt")
        steps = [{"command": one, "makes": f"{tmp_path}/{name}"} for one, name in zip(commands, names, strict=False)]
        return read_sweep(write(prepare=steps, **more)).rows[0].definition()

    text, space = f"pretrain-text --output={tmp_path}/text", f"fit-space --text {tmp_path}/text/model"
    flags = [f"--model.latent_space.fitted={tmp_path}/space.pt"]
    known = definition(text, space, flags=flags)
    assert known[f"prepare.{tmp_path}/space.pt"] == space
    assert definition(text, space, "fit-space", flags=flags) == known, "a step for another row"
    assert definition(text, f"{space} --captions=9", flags=flags) != known
    assert definition(f"{text} --steps=9", space, flags=flags) != known, "what is needed for what is needed"
    nested = definition(text, space, flags=[f"--model.latent_space={{fitted: {tmp_path}/space.pt}}"])
    assert f"prepare.{tmp_path}/text" in nested
    assert f"prepare.{tmp_path}/text" not in definition(text, space)
    assert f"prepare.{tmp_path}/text" in definition(text, space, commands=["fit", f"test --data.root={tmp_path}/text"])


# Running, with a program in place of ladic that does as it is told.
