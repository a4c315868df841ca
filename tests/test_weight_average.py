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
        expected = steps[0][name]
        for later in steps[1:]:
            expected = 0.6 * expected + 0.4 * later[name]
        torch.testing.assert_close(parameter, expected, atol=1e-6, rtol=1e-5)
        if not parameter.requires_grad:
            frozen += 1
            assert torch.equal(parameter, steps[0][name]), "to the bit"
    assert frozen


def test_lightnings_is_the_same_but_for_where_it_begins(tmp_path):
    ours, steps = trained(WeightAverage(0.6), tmp_path)
    theirs, same = trained(EMAWeightAveraging(decay=0.6), tmp_path)
    for name, parameter in ours.named_parameters():
        assert torch.equal(steps[-1][name], same[-1][name])
        begun = 0.6**3 * 0.6 * (steps[1][name] - steps[0][name])  # theirs is first the weights after a step
        torch.testing.assert_close(theirs.get_parameter(name), parameter + begun, atol=1e-6, rtol=1e-4)


def test_decays_that_are_none_are_refused():
    for decay in (-0.1, 1.0):
        with pytest.raises(UsageError, match=f"WeightAverage.decay={decay}: need 0 <= decay < 1"):
            WeightAverage(decay)
