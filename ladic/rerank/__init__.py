"""Choosing one caption among candidates, or several."""

from ladic.rerank.base import CandidateSelector, Evidence
from ladic.rerank.bound import EncoderBoundSelector
from ladic.rerank.clip import ClipSelector
from ladic.rerank.diverse import best, diverse
from ladic.rerank.expected import ExpectedCiderSelector
from ladic.rerank.first import FirstSelector
from ladic.rerank.mbr import MinimumBayesRiskSelector
from ladic.rerank.phrases import PhraseSelector
from ladic.rerank.reconstruction import ReconstructionSelector
from ladic.rerank.utilities import BertUtility, BleuUtility, CiderUtility, Utility

__all__ = [
    "BertUtility",
    "BleuUtility",
    "CandidateSelector",
    "CiderUtility",
    "ClipSelector",
    "EncoderBoundSelector",
    "Evidence",
    "ExpectedCiderSelector",
    "FirstSelector",
    "MinimumBayesRiskSelector",
    "PhraseSelector",
    "ReconstructionSelector",
    "Utility",
    "best",
    "diverse",
]
