"""Other ways to caption, on the same image encoders, data and scores: what the latent diffusion is compared with."""

from ladic.baselines.autoregressive import AutoregressiveCaptioner
from ladic.baselines.decoder import DecoderSettings
from ladic.baselines.masked import MaskedDiffusionCaptioner

__all__ = ["AutoregressiveCaptioner", "DecoderSettings", "MaskedDiffusionCaptioner"]
