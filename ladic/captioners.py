"""Every captioner; importing this module registers them."""

from ladic.baselines import AutoregressiveCaptioner, MaskedDiffusionCaptioner
from ladic.captioner import LatentDiffusionCaptioner
from ladic.captioner_base import Captioner

__all__ = ["AutoregressiveCaptioner", "Captioner", "LatentDiffusionCaptioner", "MaskedDiffusionCaptioner"]
