"""Every captioner; importing this module registers them."""

from ladic.baselines import AutoregressiveCaptioner
from ladic.captioner import LatentDiffusionCaptioner
from ladic.captioner_base import Captioner

__all__ = ["AutoregressiveCaptioner", "Captioner", "LatentDiffusionCaptioner"]
