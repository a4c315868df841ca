"""Where a sampler spends its steps: the times at which the denoiser is asked."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ladic.errors import UsageError
from ladic.types import ScheduleLike

Spacing = Literal["uniform", "quadratic", "log_snr"]

LAST = 1e-3
"""The time that stands for 0 in log-SNR spacing, where 0 itself is infinitely far; DPM-Solver's (Lu et al. 2022)."""


def check_spacing(spacing: str) -> None:
    """Raises UsageError for a spacing that isn't one."""
    if spacing not in get_args(Spacing):
        raise UsageError(f"spacing='{spacing}': accepted are {', '.join(get_args(Spacing))}")


def spaced_times(num_steps: int, spacing: Spacing, schedule: ScheduleLike) -> Tensor:
    """Times (num_steps + 1,) falling from 1 to 0; the denoiser is asked at all but the last.

    "uniform" has equal steps in t; "quadratic" in the root of t, so that more steps lie where little noise is left
    (DDIM, Song et al. 2021, appendix D.2); "log_snr" in log(alpha_bar / (1 - alpha_bar)).

    Args:
        num_steps: evaluations.
        spacing: one of the three.
        schedule: says what the times mean.

    Raises:
        UsageError: if the schedule is a table with fewer entries.

    Example:
        >>> from ladic.components import CosineSchedule
        >>> spaced_times(4, "quadratic", CosineSchedule()).tolist()
        [1.0, 0.5625, 0.25, 0.0625, 0.0]
    """
    if schedule.entries is not None and num_steps > schedule.entries:
        raise UsageError(
            f"num_steps={num_steps}: the noise schedule is a table of {schedule.entries} entries; take at most as many"
        )
    even = torch.linspace(1.0, 0.0, num_steps + 1)
    if spacing == "quadratic":
        return even.square()
    if spacing == "log_snr":
        return _even_log_snr(num_steps, schedule)
    return even


def _even_log_snr(num_steps: int, schedule: ScheduleLike) -> Tensor:
    grid = torch.linspace(1.0, LAST, 4001, dtype=torch.float64)
    signal = schedule.alpha_bar(grid).double().clamp(1e-12, 1 - 1e-12)
    log_snr = torch.log(signal) - torch.log1p(-signal)
    wanted = np.linspace(float(log_snr[0]), float(log_snr[-1]), num_steps + 1)
    times = torch.from_numpy(np.interp(wanted, log_snr.numpy(), grid.numpy())).float()
    times[0], times[-1] = 1.0, 0.0
    return times
