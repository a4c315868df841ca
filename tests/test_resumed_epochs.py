"""Where a run goes on: the epochs and samples after a checkpoint are those of an unbroken run, with any loader."""

import warnings

import pytest
import torch
from lightning import Callback, LightningModule, Trainer, seed_everything
from test_data_base import Captioner
from test_data_webdataset import training_shards
from tiny_run import karpathy_data, karpathy_tree

from ladic.callbacks.requeue import Requeue
from ladic.datamodules import KarpathyDataModule, WebDatasetDataModule


class Tiny(Captioner, LightningModule):
    """One weight, and the ids of what it is trained on."""

    device = LightningModule.device

    def __init__(self):
        LightningModule.__init__(self)
        Captioner.__init__(self)
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.global_step, batch["image_id"]))
        return self.weight * 1.0

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveAt(Callback):
    """A checkpoint in one hook, named by its step; none after the last epoch, from which nothing goes on."""

    def __init__(self, folder, hook):
        self.folder = folder
        if hook is not None:
            setattr(self, hook, self._save)

    def _save(self, trainer, *_):
        if trainer.current_epoch < trainer.max_epochs - 1:
            trainer.save_checkpoint(self.folder / f"{trainer.global_step}.ckpt")


@pytest.fixture
def shards(tmp_path):
    return training_shards(tmp_path, 4)


def fit(data, save, limit, ckpt_path=None):
    """Three epochs; for each step its number and the ids that it saw."""
    seed_everything(3, verbose=False)
    module = Tiny()
    quiet = dict.fromkeys(["logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"], False)
    trainer = Trainer(
        accelerator="cpu", max_epochs=3, limit_train_batches=limit, limit_val_batches=1, num_sanity_val_steps=0,
        callbacks=[Requeue(minutes=None), save], default_root_dir=save.folder / "run", **quiet,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's: few workers, no logger
        trainer.fit(module, data, ckpt_path=ckpt_path)
    return module.seen


@pytest.mark.parametrize(
    ("kind", "hook", "limit", "workers"),
    [("shards", "on_validation_end", 1.0, 0), ("shards", "on_train_batch_end", 2, 0),
     ("shards", "on_train_epoch_end", 0.5, 1), ("pictures", "on_train_batch_end", 2, 1)],
)  # fmt: skip
def test_a_run_goes_on_with_the_samples_of_an_unbroken_one(shards, kind, hook, limit, workers):
    def data():
        if kind == "pictures":
            options = {"unit": "image", "batch_size": 2, "num_workers": workers}
            return KarpathyDataModule(**karpathy_data(shards, **options)["init_args"])
        paths = {"train": str(shards / "train-*.tar"), "val": str(shards / "train-0.tar")}
        return WebDatasetDataModule(**paths, samples_per_epoch=16, batch_size=4, num_workers=workers)

    if kind == "pictures":
        karpathy_tree(shards)
    whole = fit(data(), SaveAt(shards, hook), limit=limit)
    for file in sorted(shards.glob("*.ckpt"))[:3]:
        rest = fit(data(), SaveAt(shards, None), limit=limit, ckpt_path=file)
        assert rest == whole[int(file.stem) :], file.name
