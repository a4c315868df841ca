"""Samplers: from noise to a clean latent, given a denoiser."""

from ladic.components.samplers.back_and_refine import BackAndRefine
from ladic.components.samplers.base import Sampler
from ladic.components.samplers.ddim import DDIMSampler
from ladic.components.samplers.renoise import RenoiseSampler

__all__ = ["BackAndRefine", "DDIMSampler", "RenoiseSampler", "Sampler"]
