"""LaDiC: image captioning by latent diffusion, made of swappable parts.

Importing this package stays free of torch, so that ``ladic --help`` answers at once; the public names below are
imported when first used.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ladic.baselines import AutoregressiveCaptioner as AutoregressiveCaptioner
    from ladic.baselines import MaskedDiffusionCaptioner as MaskedDiffusionCaptioner
    from ladic.captioner import LatentDiffusionCaptioner as LatentDiffusionCaptioner
    from ladic.captioner_base import Captioner as Captioner
    from ladic.guidance import ClassifierFreeGuidance as ClassifierFreeGuidance

try:
    __version__ = version("ladic")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

_LAZY = {
    "AutoregressiveCaptioner": "ladic.baselines",
    "Captioner": "ladic.captioner_base",
    "LatentDiffusionCaptioner": "ladic.captioner",
    "MaskedDiffusionCaptioner": "ladic.baselines",
    "ClassifierFreeGuidance": "ladic.guidance",
}

__all__ = [
    "AutoregressiveCaptioner",
    "Captioner",
    "ClassifierFreeGuidance",
    "LatentDiffusionCaptioner",
    "MaskedDiffusionCaptioner",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'ladic' has no attribute '{name}'")
