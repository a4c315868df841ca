"""Noise schedules: how much of the clean latent is left at time t."""

from ladic.components.noise_schedules.base import NoiseSchedule
from ladic.components.noise_schedules.cosine import CosineSchedule
from ladic.components.noise_schedules.dilated import DilatedSchedule
from ladic.components.noise_schedules.linear import LinearSchedule
from ladic.components.noise_schedules.shifted import ShiftedSchedule
from ladic.components.noise_schedules.sigmoid import SigmoidSchedule
from ladic.components.noise_schedules.sqrt import SqrtSchedule
from ladic.components.noise_schedules.tan import TanSchedule

__all__ = [
    "CosineSchedule",
    "DilatedSchedule",
    "LinearSchedule",
    "NoiseSchedule",
    "ShiftedSchedule",
    "SigmoidSchedule",
    "SqrtSchedule",
    "TanSchedule",
]
