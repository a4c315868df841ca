"""Callbacks: evaluation and what is written during a run."""

from ladic.callbacks.evaluation import CaptionEvaluation
from ladic.callbacks.truth import TruthEvaluation

__all__ = ["CaptionEvaluation", "TruthEvaluation"]
