"""Swappable components; importing this package registers every built-in class under its short name."""

if __name__ != "ladic.components":
    raise ImportError("import ladic.components, not components: install the project with `pip install -e .`")

from ladic.components.denoisers import Context, CrossAttentionDenoiser, Denoiser, DenoiserFactory, PrefixDenoiser
from ladic.components.image_encoders import BlipEncoder, ConvEncoder, HFVisionEncoder, ImageEncoder, TimmEncoder
from ladic.components.latent_spaces import (
    BertLatentSpace,
    EmbeddingLatentSpace,
    LatentNormalizer,
    TextLatentSpace,
)
from ladic.components.noise_schedules import (
    CosineSchedule,
    DilatedSchedule,
    LinearSchedule,
    NoiseSchedule,
    ShiftedSchedule,
)
from ladic.components.samplers import BackAndRefine, DDIMSampler, RenoiseSampler, Sampler

__all__ = [
    "BackAndRefine",
    "BertLatentSpace",
    "BlipEncoder",
    "Context",
    "ConvEncoder",
    "CosineSchedule",
    "CrossAttentionDenoiser",
    "DDIMSampler",
    "Denoiser",
    "DenoiserFactory",
    "DilatedSchedule",
    "EmbeddingLatentSpace",
    "HFVisionEncoder",
    "ImageEncoder",
    "LatentNormalizer",
    "LinearSchedule",
    "NoiseSchedule",
    "PrefixDenoiser",
    "RenoiseSampler",
    "Sampler",
    "ShiftedSchedule",
    "TextLatentSpace",
    "TimmEncoder",
]
