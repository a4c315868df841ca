"""Samplers where a schedule has an edge: a table's clean entry, and noise that is stretched in sampling."""

import pytest
import torch

from ladic.components import AncestralSampler, CosineSchedule, DDIMSampler, DiffusersSampler, DilatedSchedule
from ladic.components.noise_schedules import LinearSchedule
from ladic.errors import UsageError


@pytest.mark.parametrize("variance", ["small", "large"])
def test_between_two_times_of_a_tables_clean_entry_the_estimate_stays(variance: str) -> None:
    schedule, sampler = LinearSchedule(num_steps=1000), AncestralSampler(4, variance=variance)  # type: ignore[arg-type]
    t, s = torch.tensor([4e-4]), torch.tensor([1e-4])
    assert float(schedule.sigma(t)) == float(schedule.sigma(s)) == 0, "both lie in the first entry"
    x0 = torch.randn(1, 3, 5, generator=torch.Generator().manual_seed(0))
    ours = sampler.step(x0, x0, t, s, schedule, lambda: torch.randn(1, 3, 5))
    torch.testing.assert_close(ours, DDIMSampler(4).step(x0, x0, t, s, schedule, lambda: torch.zeros(1, 3, 5)))
    torch.testing.assert_close(ours, x0)


def test_a_scheduler_of_diffusers_is_given_no_stretched_noise() -> None:
    pytest.importorskip("diffusers")
    sampler = DiffusersSampler("DDIMScheduler", 3)
    assert len(sampler.times(DilatedSchedule(CosineSchedule(), training=4.0, sampling=1.0))) == 4
    with pytest.raises(UsageError, match=r"DilatedSchedule stretches its noise.*sampling=1\.0"):
        sampler.times(DilatedSchedule(CosineSchedule(), sampling=3.0))
