"""Other ways to caption, on the same image encoders, data and scores: what the latent diffusion is compared with."""

from ladic.baselines.autoregressive import AutoregressiveCaptioner
from ladic.baselines.decoder import DecoderSettings

__all__ = ["AutoregressiveCaptioner", "DecoderSettings"]
