"""Choosing one caption among candidates."""

from ladic.rerank.base import CandidateSelector, Evidence
from ladic.rerank.mbr import MinimumBayesRiskSelector
from ladic.rerank.phrases import PhraseSelector
from ladic.rerank.reconstruction import ReconstructionSelector

__all__ = ["CandidateSelector", "Evidence", "MinimumBayesRiskSelector", "PhraseSelector", "ReconstructionSelector"]
