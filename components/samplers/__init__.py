"""Samplers: from noise to a clean latent, given a denoiser."""

from ladic.components.samplers.ancestral import AncestralSampler
from ladic.components.samplers.back_and_refine import BackAndRefine
from ladic.components.samplers.base import Sampler
from ladic.components.samplers.ddim import DDIMSampler
from ladic.components.samplers.diffusers import DiffusersSampler
from ladic.components.samplers.dpm_solver import DPMSolverSampler
from ladic.components.samplers.heun import HeunSampler
from ladic.components.samplers.renoise import RenoiseSampler

__all__ = [
    "AncestralSampler",
    "BackAndRefine",
    "DDIMSampler",
    "DPMSolverSampler",
    "DiffusersSampler",
    "HeunSampler",
    "RenoiseSampler",
    "Sampler",
]
