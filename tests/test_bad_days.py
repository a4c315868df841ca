"""Signals, resuming in mid-epoch, steps that are no numbers, full disks: through the command line, in one process."""

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning import Callback
from lightning.pytorch.plugins.environments import SLURMEnvironment
from tiny_run import error_line, tiny_config, write_config

from ladic.callbacks import evaluation
from ladic.checkpoint_io import AtomicCheckpointIO
from ladic.checkpoints import find_checkpoint, newest_checkpoint, read_checkpoint
from ladic.cli import lightning_cli
from ladic.cli.bad_days import prepared
from ladic.errors import UsageError
from ladic.slurm import requeue, slurm_job, was_preempted

EMA = {"class_path": "ladic.callbacks.WeightAverage", "init_args": {"decay": 0.9}}


class Act(Callback):
    """Does something once, after a step's end or at a validation batch."""

    def __init__(self, step: int, number: int, where: str = "train") -> None:
        self.step, self.number, self.where = step, number, where

    def on_train_batch_end(self, trainer, *_):
        if self.where == "train" and trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)

    def on_validation_batch_start(self, trainer, *_):
        if self.where == "validation" and trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)


class Poison(Callback):
    """Makes the gradients of one step NaN."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_after_backward(self, trainer, pl_module):
        if trainer.global_step == self.step:
            pl_module.null_token.grad = torch.full_like(pl_module.null_token, float("nan"))


def long_config(folder, *callbacks, **trainer):
    """Nine steps over epochs of four (32 captions in batches of 8), validated every three."""
    config = tiny_config(folder)
    config["data"]["init_args"] |= {"num_train": 32, "unit": "image"}
    config["model"]["denoiser"]["init_args"]["dropout"] = 0.1
    config["trainer"] |= {"max_steps": 9, "val_check_interval": 3, "check_val_every_n_epoch": None, **trainer}
    config["trainer"]["callbacks"] = [EMA, *callbacks, config["trainer"]["callbacks"][1]]
    return config


def with_act(step, number, where="train"):
    return {"class_path": "test_bad_days.Act", "init_args": {"step": step, "number": int(number), "where": where}}


def weights(folder):
    checkpoint = read_checkpoint(folder / "run" / "last.ckpt")
    return {**checkpoint["state_dict"], **{f"now.{k}": v for k, v in checkpoint["current_model_state"].items()}}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    from ladic.cli.main import main

    folder = tmp_path_factory.mktemp("unbroken")
    main(["fit", "-c", str(write_config(folder, long_config(folder)))])
    return folder


@pytest.mark.parametrize(
    ("step", "number", "where"),
    [(2, signal.SIGUSR1, "train"), (4, signal.SIGTERM, "train"), (6, signal.SIGUSR1, "train"),
     (3, signal.SIGTERM, "validation")],
)  # fmt: skip
def test_a_signal_stops_at_a_step_and_the_run_goes_on_to_the_same_weights(cli, tmp_path, unbroken, step, number, where):
    shutil.copy(unbroken / "space.safetensors", tmp_path)  # a space of its own would have other weights
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)
    done = cli("fit", "-c", write_config(tmp_path, long_config(tmp_path, with_act(step, number, where))))
    assert done.code == 128 + number
    assert f"stopped at step {step}, saved '{tmp_path / 'run' / 'resume.ckpt'}'" in done.stderr
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)) == before
    assert read_checkpoint(tmp_path / "run" / "resume.ckpt")["global_step"] == step
    done = cli("fit", "-c", write_config(tmp_path, long_config(tmp_path)), "--ckpt_path=auto")
    assert done.code == 0, done.stderr
    assert f"begins at step {step}" in done.stdout
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)) == before
    resumed, whole = weights(tmp_path), weights(unbroken)
    assert resumed.keys() == whole.keys()
    assert [name for name in whole if not torch.equal(resumed[name], whole[name])] == []


def test_stopping_where_an_epoch_ends_and_once_more_in_the_next_changes_nothing(cli, tmp_path, unbroken):
    """Steps 1 to 4 are the first epoch."""
    shutil.copy(unbroken / "space.safetensors", tmp_path)
    for step in (4, 5, 7):
        config = long_config(tmp_path, with_act(step, signal.SIGUSR1))
        assert cli("fit", "-c", write_config(tmp_path, config), "--ckpt_path=auto").code == 128 + signal.SIGUSR1
        assert read_checkpoint(tmp_path / "run" / "resume.ckpt")["global_step"] == step
    assert cli("fit", "-c", write_config(tmp_path, long_config(tmp_path)), "--ckpt_path=auto").code == 0
    resumed, whole = weights(tmp_path), weights(unbroken)
    assert [name for name in whole if not torch.equal(resumed[name], whole[name])] == []


class Early(Callback):
    """Sends a signal while the run is being set up, or at its first sanity check."""

    def __init__(self, where: str, number: int) -> None:
        self.where, self.number = where, number

    def setup(self, trainer, pl_module, stage):
        if self.where == "setup":
            os.kill(os.getpid(), self.number)

    def on_sanity_check_start(self, trainer, pl_module):
        if self.where == "sanity":
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize(
    ("where", "number"), [("import", signal.SIGTERM), ("setup", signal.SIGUSR1), ("sanity", signal.SIGTERM)]
)
def test_a_job_that_is_asked_to_go_before_its_first_step_goes_after_it(cli, tmp_path, monkeypatch, where, number):
    script = tmp_path / "scontrol"
    script.write_text('#!/bin/sh\necho "$@" >> "$(dirname "$0")/asked"\necho "PreemptTime=2026-11-25T10:00:00"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name, value in {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "x", "SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1",
                        "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)
    early = {"class_path": "test_bad_days.Early", "init_args": {"where": where, "number": int(number)}}
    if where == "import":
        checked = lightning_cli.check_configs
        monkeypatch.setattr(lightning_cli, "check_configs", lambda argv: (os.kill(os.getpid(), number), checked(argv)))
    done = cli("fit", "-c", write_config(tmp_path, long_config(tmp_path, early, num_sanity_val_steps=1)))
    assert done.code == 0, done.stderr
    assert f"stopped at step 1, saved '{tmp_path / 'run' / 'resume.ckpt'}'; requeueing job 7" in done.stderr
    assert "requeue 7" in (tmp_path / "asked").read_text().splitlines()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)) == before


@pytest.mark.parametrize("launched", [False, True])
def test_ranks_under_torchrun_in_a_job_are_torchruns(monkeypatch, launched):
    for name, value in {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "x", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    if launched:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")

    class Cli:
        config_init = None

        def trainer(self, plugins, **_):
            self.plugins = plugins
            raise StopIteration

    cli = Cli()
    options = {"trainer": SimpleNamespace(get=lambda _: None, strategy="auto"), "log_to": []}
    with pytest.raises(StopIteration):
        prepared(cli.trainer, lambda _, name: options[name])
    assert any(isinstance(plugin, SLURMEnvironment) for plugin in cli.plugins) is not launched


def test_auto_begins_where_there_is_nothing_and_passes_over_what_is_broken(cli, tmp_path, trained):
    folder = tmp_path / "run"
    assert newest_checkpoint(folder) is None
    folder.mkdir()
    (folder / "resume.ckpt").write_bytes((trained / "last.ckpt").read_bytes()[:-100])
    with pytest.warns(UserWarning, match="passed over: checkpoint .*can't be read"):
        assert newest_checkpoint(folder) is None
    (folder / "last.ckpt").write_bytes((trained / "last.ckpt").read_bytes())
    (folder / "later.ckpt.part").write_bytes(b"half")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert newest_checkpoint(folder) == folder / "last.ckpt"
    done = cli("fit", "-c", write_config(tmp_path), "--ckpt_path=auto", "--trainer.max_steps=3")
    assert done.code == 0, done.stderr
    assert "begins at step 2" in done.stdout


def test_the_end_of_a_run_is_not_its_resume_file(tmp_path):
    for name in ("best.ckpt", "resume.ckpt"):
        (tmp_path / name).touch()
    os.utime(tmp_path / "best.ckpt", (1, 1))
    assert find_checkpoint(tmp_path) == tmp_path / "best.ckpt"


@pytest.mark.parametrize(("rule", "rate"), [("none", "0.001"), ("linear", "0.004 (x4, linear)"), ("sqrt", "0.002 (x2")])
def test_the_plan_is_told_and_the_learning_rate_scaled(cli, tmp_path, rule, rate):
    config = write_config(tmp_path)
    flags = [f"--scale-lr={rule}", "--base_batch_size=4", "--trainer.accumulate_grad_batches=2"]
    done = cli("fit", "-c", config, *flags, "--trainer.max_steps=1", "--model.lr_schedule.shape=constant")
    assert done.code == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("effective batch"))
    assert line.startswith("effective batch 16 = 8 x 1 process (1 node) x 2 accumulated; ")
    assert f"peak learning rate {rate}" in line
    (state,) = read_checkpoint(tmp_path / "run")["optimizer_states"]
    assert {group["initial_lr"] for group in state["param_groups"]} == {float(rate.split()[0])}


def test_the_rate_is_that_of_the_global_batch_where_a_run_goes_on_with_another(cli, tmp_path):
    words = ["fit", "-c", write_config(tmp_path), "--scale-lr=linear", "--model.lr_schedule.shape=constant"]
    words += ["--model.lr_schedule.warmup=0.5", "--trainer.max_epochs=4", "--trainer.max_steps"]
    assert cli(*words, 1).code == 0
    done = cli(*words, 2, "--ckpt_path=auto", "--trainer.accumulate_grad_batches=2")
    assert done.code == 0, done.stderr
    assert "peak learning rate 0.002 (x2, linear)" in done.stdout
    stored = read_checkpoint(tmp_path / "run")
    rates = [(group["initial_lr"], group["lr"]) for group in stored["optimizer_states"][0]["param_groups"]]
    assert set(rates) == {(0.002, 0.002)}
    assert set(stored["lr_schedulers"][0]["base_lrs"]) == {0.002}


def test_a_step_that_is_no_number_stops_the_run_and_names_its_samples(cli, tmp_path):
    poison = {"class_path": "test_bad_days.Poison", "init_args": {"step": 2}}
    done = cli("fit", "-c", write_config(tmp_path, long_config(tmp_path, poison)))
    assert done.code == 2
    line = error_line(done.stderr)
    assert "loss or gradient of step 2 is not finite" in line
    assert "--nan=skip" in line
    dumped = json.loads((tmp_path / "run" / "nonfinite-2-0.json").read_text())
    assert len(dumped["image_id"][0]) == len(dumped["captions"][0]) == 8
    assert all(image_id.startswith("train-") for image_id in dumped["image_id"][0])


def test_a_step_that_is_no_number_is_skipped(cli, tmp_path):
    poison = {"class_path": "test_bad_days.Poison", "init_args": {"step": 2}}
    done = cli("fit", "-c", write_config(tmp_path, long_config(tmp_path, poison)), "--nan=skip")
    assert done.code == 0, done.stderr
    assert (tmp_path / "run" / "nonfinite-2-0.json").is_file()
    assert all(torch.isfinite(value).all() for value in weights(tmp_path).values() if value.is_floating_point())


def test_skipping_has_an_end(cli, tmp_path):
    callbacks = [{"class_path": "test_bad_days.Poison", "init_args": {"step": step}} for step in range(3)]
    callbacks.append({"class_path": "FiniteLoss", "init_args": {"action": "skip", "patience": 1}})
    done = cli("fit", "-c", write_config(tmp_path, long_config(tmp_path, *callbacks)))
    assert done.code == 2
    assert "(2 steps in a row)" in error_line(done.stderr)


def test_a_full_disk_is_told_and_the_last_checkpoint_stays(tmp_path, monkeypatch):
    file, saver = tmp_path / "last.ckpt", AtomicCheckpointIO()
    saver.save_checkpoint({"ladic": {"format": 1}, "step": 1}, file)

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match=r"last.ckpt': can't be written \(no space left on the disk\); the one saved"):
        saver.save_checkpoint({"ladic": {"format": 1}, "step": 2}, file)
    assert read_checkpoint(file)["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


class Fill(Callback):
    """Leaves no room on the run's disk after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            with (
                contextlib.suppress(OSError),
                open(Path(trainer.default_root_dir, "filler"), "wb", buffering=0) as file,
            ):
                while file.write(bytes(4096)):
                    pass


def test_a_really_full_disk(cli, tmp_path, unbroken):
    shutil.copy(unbroken / "space.safetensors", tmp_path)
    disk = tmp_path / "run"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("a tmpfs can't be mounted here")
    try:
        fill = {"class_path": "test_bad_days.Fill", "init_args": {"step": 5}}
        words = ["--ckpt_path=auto", "--checkpoint_minutes=0"]
        done = cli("fit", "-c", write_config(tmp_path, long_config(tmp_path, fill)), *words)
        assert done.code == 2
        line = error_line(done.stderr)
        assert "no space left on the disk" in line
        assert "intact" in line
        for file in disk.glob("*.ckpt"):
            read_checkpoint(file)
        assert list(disk.glob("*.part")) == []
        (disk / "filler").unlink()
        done = cli("fit", "-c", write_config(tmp_path, long_config(tmp_path)), *words)
        assert done.code == 0, done.stderr
        assert "begins at step 0" not in done.stdout
        resumed, whole = weights(tmp_path), weights(unbroken)
        assert [name for name in whole if not torch.equal(resumed[name], whole[name])] == []
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_disk_too_full_for_captions(cli, tmp_path, monkeypatch):
    def full(path, _):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(evaluation, "write_json", full)
    done = cli("fit", "-c", write_config(tmp_path))
    assert done.code == 2
    assert error_line(done.stderr).startswith(f"'{tmp_path / 'run' / 'results_val.json'}': no space left on the disk;")


def test_a_preempted_job_is_told_from_a_cancelled_one(tmp_path, monkeypatch):
    script = tmp_path / "scontrol"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for shown, preempted in (("PreemptTime=2026-11-25T10:00:00", True), ("PreemptTime=None", False), ("", False)):
        script.write_text(f'#!/bin/sh\necho "JobId=7 PreemptEligibleTime=2026-11-25T10:00:00 {shown}"\n')
        script.chmod(0o755)
        assert was_preempted("7") is preempted
    script.write_text('#!/bin/sh\necho "$@" > "$(dirname "$0")/asked"\n')
    requeue("7")
    assert (tmp_path / "asked").read_text() == "requeue 7\n"
    script.write_text("#!/bin/sh\necho Invalid job >&2\nexit 1\n")
    with pytest.raises(UsageError, match="scontrol requeue 7: Invalid job; submit the job again"):
        requeue("7")


def test_array_jobs_are_requeued_task_by_task(monkeypatch):
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_JOB_NAME", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    assert slurm_job() is None
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert slurm_job() == "12"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "11")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert slurm_job() == "11_3"
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")
    assert slurm_job() is None


def test_the_batch_scripts_are_bash_and_give_each_job_a_folder(root):
    for script in sorted((root / "configs" / "slurm").glob("*.sbatch")):
        assert subprocess.run(["bash", "-n", script]).returncode == 0
        text = script.read_text()
        assert "--kill-on-bad-exit=1" in text
        assert "$SLURM_JOB_ID" in text or "$SLURM_ARRAY_TASK_ID" in text
    assert Path(root / "configs" / "slurm" / "train.sbatch").is_file()
