"""The moving average of trained weights, against its definition and Lightning's own."""

import copy

import pytest
import torch
from lightning import Callback
from lightning.pytorch.callbacks import EMAWeightAveraging
from tiny_captioner import model, trainer, training_batch
from torch.utils.data import DataLoader

from ladic.callbacks import WeightAverage
from ladic.errors import UsageError


class Record(Callback):
    """The weights after every step."""

    def __init__(self):
        self.steps = []

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.steps.append(copy.deepcopy(dict(pl_module.named_parameters())))


def trained(average, tmp_path):
    """A captioner after four steps, and its weights before and after each."""
    torch.manual_seed(0)
    captioner, record = model(), Record()
    first = copy.deepcopy(dict(captioner.named_parameters()))
    batches = DataLoader([training_batch(captioner)] * 4, batch_size=None)
    trainer(tmp_path, max_steps=4, callbacks=[average, record]).fit(captioner, batches)
    return captioner, [first, *record.steps]


def test_it_is_the_sum_that_decays_and_leaves_frozen_weights_alone(tmp_path):
    captioner, steps = trained(WeightAverage(0.6), tmp_path)
    frozen = 0
    for name, parameter in captioner.named_parameters():
        expected = steps[1][name]
        for later in steps[2:]:
            expected = 0.6 * expected + 0.4 * later[name]
        torch.testing.assert_close(parameter, expected, atol=1e-6, rtol=1e-5)
        if not parameter.requires_grad:
            frozen += 1
            assert torch.equal(parameter, steps[0][name]), "to the bit"
    assert frozen


def test_lightnings_is_the_same(tmp_path):
    ours, _ = trained(WeightAverage(0.6), tmp_path)
    theirs, _ = trained(EMAWeightAveraging(decay=0.6), tmp_path)
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(theirs.get_parameter(name), parameter, atol=1e-6, rtol=1e-5)


def test_weights_from_before_training_are_forgotten(tmp_path):
    captioner, average = model(), WeightAverage(0.9)
    average.setup(None, captioner, "fit")
    with torch.no_grad():
        for parameter in captioner.parameters():
            parameter.add_(1.0)  # as a student that takes over its teacher's, or the first step
    average._average_model.update_parameters(captioner)
    for own, weight in zip(average._average_model.module.parameters(), captioner.parameters(), strict=True):
        if weight.requires_grad:
            assert torch.equal(own, weight)


def test_decays_that_are_none_are_refused():
    for decay in (-0.1, 1.0):
        with pytest.raises(UsageError, match=f"WeightAverage.decay={decay}: need 0 <= decay < 1"):
            WeightAverage(decay)
