"""Captions with their pictures, a trace and the schedule, in every logger that shows pictures."""

import io
import json
import warnings
from types import SimpleNamespace

import pytest
from PIL import Image
from tiny_run import error_line, tiny_config, write_config

from ladic.callbacks.sample_logger import SampleLogger, sample_figure, schedule_figure
from ladic.components import DDIMSampler, ShiftedSchedule
from ladic.datamodules import WebDatasetDataModule
from ladic.datamodules.images import BrokenImageError


def test_tensorboard_gets_pictures_by_default(cli, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator

    config = tiny_config(tmp_path)
    del config["log_to"]
    done = cli("fit", "-c", write_config(tmp_path, config))
    assert done.code == 0, done.stderr
    (file,) = tmp_path.rglob("events.out.tfevents.*")
    events = EventAccumulator(str(file), {IMAGES: 0})
    events.Reload()
    assert set(events.Tags()["images"]) == {"samples", "trace", "schedule"}
    for name, step in (("samples", 2), ("trace", 2), ("schedule", 0)):
        (shown,) = events.Images(name)
        assert shown.step == step
        assert min(Image.open(io.BytesIO(shown.encoded_image_string)).size) > 60


def test_beside_a_csv_they_are_files_if_asked_for(cli, tmp_path):
    config = tiny_config(tmp_path)
    config["trainer"]["callbacks"].append(
        {"class_path": "SampleLogger", "init_args": {"num_samples": 2, "trace": False}}
    )
    done = cli("fit", "-c", write_config(tmp_path, config))
    assert done.code == 0, done.stderr
    names = {file.name for file in tmp_path.rglob("pictures/*.png")}
    assert names == {"samples-00000002.png", "schedule-00000000.png"}


def test_a_csv_alone_gets_none(trained):
    assert not list(trained.rglob("pictures"))


def test_it_changes_no_number_of_the_run(cli, tmp_path):
    """Its sampling draws from generators of its own: captions and weights are those of a run without it."""
    from ladic.checkpoints import read_checkpoint

    weights, captions = [], []
    for name, callbacks in (("with", [{"class_path": "SampleLogger"}]), ("without", [])):
        config = tiny_config(tmp_path)
        config["trainer"] |= {"default_root_dir": str(tmp_path / name), "max_steps": 4, "val_check_interval": 1}
        config["trainer"]["callbacks"][1]["init_args"]["dirpath"] = str(tmp_path / name)
        config["trainer"]["callbacks"] += callbacks
        assert cli("fit", "-c", write_config(tmp_path, config)).code == 0
        weights.append(read_checkpoint(tmp_path / name)["state_dict"])
        captions.append(json.loads((tmp_path / name / "results_val.json").read_text()))
    assert captions[0] == captions[1]
    assert all(value.equal(weights[1][key]) for key, value in weights[0].items())


def test_the_samples_show_captions_and_references():
    rows = [("a", "a red circle", "a circle that is red"), ("b", "", "nothing")]
    figure = sample_figure([Image.new("RGB", (20, 10), "red")] * 2, rows)
    shown = [axes.get_xlabel() for axes in figure.axes]
    assert shown == ["a red circle", "(empty)"]
    assert [text.get_text() for axes in figure.axes for text in axes.texts] == ["a circle that is red", "nothing"]


@pytest.mark.parametrize("data", [WebDatasetDataModule(val="x.tar"), SimpleNamespace(split=lambda _: NoPictures())])
def test_data_without_pictures_is_told_once_and_ends_no_run(data):
    trainer = SimpleNamespace(is_global_zero=True, sanity_checking=False, loggers=[None], datamodule=data)
    callback = SampleLogger()

    def validate():
        callback.on_validation_epoch_start(trainer, None)
        outputs = {"image_id": ["a"], "captions": ["a red circle"]}
        callback.on_validation_batch_end(trainer, None, outputs, {"references": [["a circle"]]})
        callback.on_validation_epoch_end(trainer, None)

    with pytest.warns(UserWarning, match="SampleLogger: no samples are drawn: .*(shards are streams|no such file)"):
        validate()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        validate()


class NoPictures:
    """A split of which only the captions were brought along."""

    def __len__(self):
        return 1

    def image_id(self, index):
        return "a"

    def image(self, index):
        raise BrokenImageError("image 'a': no such file")


def test_the_schedule_shows_the_samplers_times():
    figure = schedule_figure(ShiftedSchedule(), DDIMSampler(5))
    signal, noise = figure.axes[0].lines
    assert (signal.get_ydata() ** 2 + noise.get_ydata() ** 2) == pytest.approx(1, abs=1e-5)
    visited = figure.axes[1].lines[1].get_xdata()
    assert list(visited) == pytest.approx([0.8, 0.6, 0.4, 0.2])


def test_wrong_values_are_one_line(cli, tmp_path):
    config = tiny_config(tmp_path)
    config["trainer"]["callbacks"].append({"class_path": "SampleLogger", "init_args": {"num_samples": 0}})
    assert "num_samples=0: need at least 1" in error_line(cli("fit", "-c", write_config(tmp_path, config)).stderr)
