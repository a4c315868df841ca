"""The plug-in keeps ladic's contracts, and its formulas are those of the papers."""

import pytest
import torch
from ladic_example import AsymmetricSampler, CellEncoder, LaplaceSchedule

from ladic.components import CosineSchedule, DDIMSampler
from ladic.errors import UsageError
from ladic.testing import check_image_encoder, check_noise_schedule, check_sampler


@pytest.mark.parametrize("options", [{}, {"image_size": 32, "cells": 4, "bins": 1}])
def test_the_encoder_keeps_its_contract(options):
    check_image_encoder(CellEncoder(**options))


@pytest.mark.parametrize("options", [{}, {"mean": -1.0, "scale": 1.5}])
def test_the_schedule_keeps_its_contract(options):
    check_noise_schedule(LaplaceSchedule(**options))


@pytest.mark.parametrize("options", [{}, {"num_steps": 3, "time_difference": 0.0}])
def test_the_sampler_keeps_its_contract(options):
    check_sampler(AsymmetricSampler(**options))


def test_cells_say_what_is_in_them():
    picture = torch.zeros(1, 3, 64, 64)
    picture[:, 0, :, 36:] = 1  # red from column 36 on: a vertical edge in the fifth column of cells
    tokens = CellEncoder()(picture)[0].view(8, 8, -1)
    assert tokens[:, :4, :6].abs().max() == 0
    assert tokens[:, 5:, 0].min() == 1
    torch.testing.assert_close(tokens[:, 4, 0], torch.full((8,), 0.5))
    edge = tokens[:, 4, 6:14]
    assert edge[:, 0].min() > 0  # across: direction 0
    assert edge[:, 1:].abs().max() == 0
    assert tokens[0, 0, 14:].tolist() == [-1, -1]
    assert tokens[7, 0, 14:].tolist() == [1, -1]


def test_the_schedule_at_points_worked_out_by_hand():
    """At t = 1/4, log(1 - 2/4) = -log 2: log SNR is log(2) / 2, and alpha_bar = 1 / (1 + 2^-1/2)."""
    schedule = LaplaceSchedule()
    torch.testing.assert_close(schedule.alpha_bar(torch.tensor([0.25])), torch.tensor([1 / (1 + 2**-0.5)]))
    torch.testing.assert_close(schedule.log_snr(torch.tensor([0.5, 0.0])), torch.tensor([0.0, 11.5]), rtol=1e-2, atol=0)


def walk(sampler):
    """Where a sampler ends with an estimate that keeps half of what it sees."""
    start = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    return sampler.sample(lambda x_t, t, before: 0.5 * x_t, start, CosineSchedule(), lambda: torch.zeros(2, 3, 4))


def test_without_a_difference_it_is_ddim():
    torch.testing.assert_close(walk(AsymmetricSampler(6, 0.0)), walk(DDIMSampler(6)))
    assert not torch.allclose(walk(AsymmetricSampler(6, 1.0)), walk(DDIMSampler(6)))


def test_one_step_worked_out_by_hand():
    """From t = 1 towards s = 1/2 of two steps, a difference of half a step: to 1/4, where cos^2 gives 0.853553."""
    sampler, one = AsymmetricSampler(2, 0.5), torch.ones(1, 1, 1)
    schedule = CosineSchedule()
    reached = sampler.step(2 * one, one, torch.tensor([1.0]), torch.tensor([0.5]), schedule, lambda: one)
    alpha_bar = schedule.alpha_bar(torch.tensor([0.25])).item()
    start = schedule.alpha_bar(torch.tensor([1.0])).item()
    noise = (2 - start**0.5) / (1 - start) ** 0.5
    torch.testing.assert_close(reached, one * (alpha_bar**0.5 + (1 - alpha_bar) ** 0.5 * noise))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CellEncoder(cells=7), "the cells have to divide"),
        (lambda: CellEncoder(bins=0), "bins=0"),
        (lambda: LaplaceSchedule(scale=0), "scale > 0"),
        (lambda: AsymmetricSampler(time_difference=-1), "time_difference=-1"),
    ],
)
def test_wrong_values_are_told(make, words):
    with pytest.raises(UsageError, match=words):
        make()
