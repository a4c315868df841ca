"""Swappable components; importing this package registers every built-in class under its short name."""

if __name__ != "ladic.components":
    raise ImportError("import ladic.components, not components: install the project with `pip install -e .`")

from ladic.components.denoisers import Context, CrossAttentionDenoiser, Denoiser, DenoiserFactory, PrefixDenoiser
from ladic.components.image_encoders import BlipEncoder, ConvEncoder, HFVisionEncoder, ImageEncoder, TimmEncoder
from ladic.components.latent_spaces import (
    AnalogBitsLatentSpace,
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
    SigmoidSchedule,
    SqrtSchedule,
    TanSchedule,
)
from ladic.components.samplers import (
    AncestralSampler,
    BackAndRefine,
    DDIMSampler,
    DiffusersSampler,
    DPMSolverSampler,
    HeunSampler,
    RenoiseSampler,
    Sampler,
)

__all__ = [
    "AnalogBitsLatentSpace",
    "AncestralSampler",
    "BackAndRefine",
    "BertLatentSpace",
    "BlipEncoder",
    "Context",
    "ConvEncoder",
    "CosineSchedule",
    "CrossAttentionDenoiser",
    "DDIMSampler",
    "DPMSolverSampler",
    "Denoiser",
    "DenoiserFactory",
    "DiffusersSampler",
    "DilatedSchedule",
    "EmbeddingLatentSpace",
    "HFVisionEncoder",
    "HeunSampler",
    "ImageEncoder",
    "LatentNormalizer",
    "LinearSchedule",
    "NoiseSchedule",
    "PrefixDenoiser",
    "RenoiseSampler",
    "Sampler",
    "ShiftedSchedule",
    "SigmoidSchedule",
    "SqrtSchedule",
    "TanSchedule",
    "TextLatentSpace",
    "TimmEncoder",
]
