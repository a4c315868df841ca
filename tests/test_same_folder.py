"""A run that was stopped and goes on remembers which of its checkpoints was best."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from ladic.callbacks import SameFolder


class Scored(LightningModule):
    """One step an epoch, validated with the next of some scores."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.scores, self.weight = scores, torch.nn.Parameter(torch.zeros(()))

    def training_step(self, *_: Any) -> torch.Tensor:
        return self.weight.square()

    def validation_step(self, *_: Any) -> None:
        self.log("val/score", self.scores[self.current_epoch])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["ladic"] = {"format": 2}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def sitting(root: Path, epochs: int, ckpt_path: str | None = None, **options: Any) -> ModelCheckpoint:
    """A fit to so many epochs in all; its checkpoints' callback."""
    saver = ModelCheckpoint(monitor="val/score", mode="max", save_last=True, **options)
    data = DataLoader([0], 1)
    trainer = Trainer(
        accelerator="cpu",
        default_root_dir=root,
        logger=CSVLogger(root, name="logs"),
        callbacks=[SameFolder(), saver],
        max_epochs=epochs,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*(num_workers|Checkpoint directory).*")
        trainer.fit(Scored([0.2, 0.9, 0.1, 0.15, 0.95]), data, data, ckpt_path=ckpt_path)
    return saver


@pytest.mark.filterwarnings("error:The dirpath has changed")
def test_the_best_of_all_sittings_stays_the_best(tmp_path: Path) -> None:
    first = sitting(tmp_path, 2)
    again = sitting(tmp_path, 4, first.last_model_path)
    assert again.best_model_path == first.best_model_path
    assert again.best_model_score == pytest.approx(0.9)
    assert [file.name for file in sorted(tmp_path.rglob("*.ckpt"))] == ["epoch=1-step=2.ckpt", "last.ckpt"]
    better = sitting(tmp_path, 5, again.last_model_path)
    assert Path(better.best_model_path).name == "epoch=4-step=5.ckpt"
    assert not Path(first.best_model_path).exists(), "of the best there is one"


@pytest.mark.filterwarnings("error:The dirpath has changed")
def test_also_where_the_folder_was_moved(tmp_path: Path) -> None:
    sitting(tmp_path / "before", 2)
    shutil.move(tmp_path / "before", tmp_path / "after")
    (last,) = (tmp_path / "after").rglob("last.ckpt")
    again = sitting(tmp_path / "after", 4, str(last))
    assert Path(again.best_model_path).parent == last.parent
    assert Path(again.best_model_path).is_file()
    assert again.best_model_score == pytest.approx(0.9)
    assert not (tmp_path / "before").exists()


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_run_from_anothers_checkpoint_writes_into_its_own_folder(tmp_path: Path) -> None:
    first = sitting(tmp_path / "one", 2)
    other = sitting(tmp_path / "two", 3, first.last_model_path)
    assert other.best_model_score == pytest.approx(0.1)
    assert (tmp_path / "two") in Path(other.best_model_path).parents
    assert len(list((tmp_path / "one").rglob("*.ckpt"))) == 2
    shutil.copytree(tmp_path / "one", tmp_path / "both/one")
    (theirs,) = (tmp_path / "both").rglob("epoch=1-step=2.ckpt")
    sitting(tmp_path / "both", 3, first.last_model_path)
    assert theirs.is_file(), "a namesake of another run's best is left alone"
    chosen = sitting(tmp_path / "one", 3, first.last_model_path, dirpath=tmp_path / "chosen")
    assert Path(chosen.last_model_path).parent == tmp_path / "chosen", "a folder that was named is taken"


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_branch_from_an_earlier_checkpoint_leaves_the_later_ones_alone(tmp_path: Path) -> None:
    first = sitting(tmp_path, 5, save_top_k=2)
    kept = {file: file.read_bytes() for file in tmp_path.rglob("*.ckpt")}
    assert [file.name for file in sorted(kept)] == ["epoch=1-step=2.ckpt", "epoch=4-step=5.ckpt", "last.ckpt"]
    branch = sitting(tmp_path, 3, str(min(kept)), save_top_k=2)
    assert Path(branch.last_model_path).parent != Path(first.last_model_path).parent
    assert {file: file.read_bytes() for file in kept} == kept


def test_one_that_goes_on_from_its_best_which_is_its_last_writes_no_second_last(tmp_path: Path) -> None:
    first = sitting(tmp_path, 2)
    again = sitting(tmp_path, 3, first.best_model_path)
    assert again.last_model_path == first.last_model_path
    assert len(list(tmp_path.rglob("last*.ckpt"))) == 1
