"""How estimated latents are rounded to words."""

from ladic.rounding.base import ArgmaxRounding, Rounding
from ladic.rounding.denoiser import RoundedDenoiser
from ladic.rounding.ngram import NgramRounding
from ladic.rounding.trigrams import TrigramModel

__all__ = ["ArgmaxRounding", "NgramRounding", "RoundedDenoiser", "Rounding", "TrigramModel"]
