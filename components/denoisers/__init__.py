"""Denoisers: networks that predict the clean latent from a noisy one and the image."""

from ladic.components.denoisers.base import Context, Denoiser, DenoiserFactory
from ladic.components.denoisers.cross_attention import CrossAttentionDenoiser
from ladic.components.denoisers.prefix import PrefixDenoiser

__all__ = ["Context", "CrossAttentionDenoiser", "Denoiser", "DenoiserFactory", "PrefixDenoiser"]
