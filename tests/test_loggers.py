"""Where a run's numbers go: CSV always, TensorBoard unless told otherwise, others by flag."""

import contextlib
import csv
import sqlite3

import pytest
import yaml
from tiny_run import error_line, tiny_config, write_config

from ladic.cli.main import main


def config_without_logger(folder):
    config = tiny_config(folder)
    del config["log_to"]
    return config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder of a run whose configuration names no logger."""
    folder = tmp_path_factory.mktemp("logged")
    main(["fit", "-c", str(write_config(folder, config_without_logger(folder)))])
    return folder / "run"


def events(folder):
    """What a TensorBoard folder holds, read by TensorBoard itself."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def test_tensorboard_and_csv_by_default_in_one_folder(run):
    (metrics,) = run.rglob("metrics.csv")
    assert list(metrics.parent.glob("events.out.tfevents.*"))
    assert yaml.safe_load((metrics.parent / "config.yaml").read_text())["trainer"]["max_steps"] == 2
    assert metrics.parent.parent.parent == run


def test_both_hold_the_same_numbers(run):
    (metrics,) = run.rglob("metrics.csv")
    logged = {}
    for row in csv.DictReader(metrics.open()):
        for name, value in row.items():
            if value and name not in ("step", "epoch"):
                logged.setdefault(name, {})[int(row["step"])] = float(value)
    shown = events(metrics.parent)
    for name in ("train/loss", "val/CIDEr-D"):
        found = {event.step: event.value for event in shown.Scalars(name)}
        assert found == pytest.approx(logged[name], rel=1e-5)


@pytest.mark.parametrize(
    ("logger", "tensorboard"),
    [
        ({"class_path": "lightning.pytorch.loggers.TensorBoardLogger", "init_args": {"save_dir": "tb"}}, True),
        ({"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "mine"}}, False),
    ],
)
def test_a_logger_of_ones_own_stays_and_csv_is_there_once(cli, tmp_path, logger, tensorboard):
    config = config_without_logger(tmp_path)
    logger["init_args"]["save_dir"] = str(tmp_path / "run" / logger["init_args"]["save_dir"])
    config["trainer"]["logger"] = logger
    assert cli("fit", "-c", write_config(tmp_path, config)).code == 0
    assert len(list(tmp_path.rglob("metrics.csv"))) == 1
    assert bool(list(tmp_path.rglob("events.out.tfevents.*"))) == tensorboard


def test_none_at_all(cli, tmp_path):
    done = cli("fit", "-c", write_config(tmp_path, config_without_logger(tmp_path)), "--trainer.logger=false")
    assert done.code == 0
    assert not list(tmp_path.rglob("metrics.csv"))
    assert not list(tmp_path.rglob("events.out.tfevents.*"))


def test_csv_alone(cli, tmp_path):
    assert cli("fit", "-c", write_config(tmp_path, config_without_logger(tmp_path)), "--log-to=[]").code == 0
    assert list(tmp_path.rglob("metrics.csv"))
    assert not list(tmp_path.rglob("events.out.tfevents.*"))


def test_mlflow_by_flag(cli, tmp_path, monkeypatch):
    for needed in ("mlflow", "sqlalchemy"):
        pytest.importorskip(needed, reason=f"{needed} is absent: pip install 'ladic[loggers]'")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    done = cli("fit", "-c", write_config(tmp_path), "--log_to=mlflow")
    assert done.code == 0, done.stderr
    (metrics,) = (tmp_path / "run").rglob("metrics.csv")
    losses = [float(row["train/loss"]) for row in csv.DictReader(metrics.open()) if row.get("train/loss")]
    with contextlib.closing(sqlite3.connect(tmp_path / "run" / "mlflow.db")) as database:
        stored = database.execute("select value from metrics where key = 'train/loss' order by step").fetchall()
    assert [value for (value,) in stored] == pytest.approx(losses, rel=1e-5)


def test_wandb_by_flag(cli, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is absent: pip install 'ladic[loggers]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    done = cli("fit", "-c", write_config(tmp_path), "--log_to=wandb")
    assert done.code == 0, done.stderr
    (stored,) = (tmp_path / "run" / "wandb").rglob("*.wandb")
    assert stored.stat().st_size > 1000


def test_one_that_is_not_installed_is_one_line(cli, tmp_path, monkeypatch):
    monkeypatch.setattr("ladic.cli.loggers.find_spec", lambda name: None)
    done = cli("fit", "-c", write_config(tmp_path), "--log_to=wandb")
    assert done.code == 2
    assert error_line(done.stderr) == "--log_to=wandb: it isn't installed; run `pip install 'ladic[loggers]'`"


def test_an_unknown_one_is_one_line(cli, tmp_path):
    done = cli("fit", "-c", write_config(tmp_path), "--log_to=paper")
    assert done.code == 2
    assert "--log_to" in error_line(done.stderr)


def test_a_log_file_gets_lines_and_no_bar(cli, tmp_path):
    config = tiny_config(tmp_path)
    del config["trainer"]["enable_progress_bar"]
    config["trainer"]["max_steps"] = 4
    config["trainer"]["callbacks"].append(
        {"class_path": "ladic.callbacks.ProgressLines", "init_args": {"seconds": 0.0}}
    )
    config["data"]["init_args"] |= {"eval_batch_size": 1}
    file = write_config(tmp_path, config)
    done = cli("fit", "-c", file)
    assert done.code == 0
    lines = [line for line in done.stdout.splitlines() if line.startswith("step ")]
    evaluated = [line.partition("  ")[0] for line in done.stdout.splitlines() if line.startswith("validation ")]
    assert evaluated == [f"validation batch {number}/4" for number in (1, 2, 3, 4)] * (len(evaluated) // 4) != []
    assert [line.split()[1] for line in lines] == ["1/4", "2/4", "3/4", "4/4"]
    assert all("loss " in line and " left" in line for line in lines)
    assert "captions/s" in lines[-1]
    assert "Epoch" not in done.stdout
    tested = [
        line
        for line in cli("test", "-c", file, "--ckpt_path", tmp_path / "run").stdout.splitlines()
        if " batch " in line
    ]
    assert [line.partition("  ")[0] for line in tested] == [f"test batch {number}/4" for number in (1, 2, 3, 4)]
    assert tested[-1].endswith("  0:00:00 left")
    assert "\x1b" not in done.stdout + done.stderr, "colours are for terminals"
