"""Callbacks: evaluation, what is written during a run, and what keeps a run alive."""

from ladic.callbacks.batch_plan import BatchPlan
from ladic.callbacks.caption_writer import CaptionWriter
from ladic.callbacks.end_together import EndTogether
from ladic.callbacks.evaluation import CaptionEvaluation
from ladic.callbacks.finite import FiniteLoss
from ladic.callbacks.progress_lines import ProgressLines
from ladic.callbacks.requeue import Requeue
from ladic.callbacks.same_folder import SameFolder
from ladic.callbacks.sample_logger import SampleLogger
from ladic.callbacks.training_clock import TrainingClock
from ladic.callbacks.truth import TruthEvaluation
from ladic.callbacks.weight_average import WeightAverage

__all__ = [
    "BatchPlan",
    "CaptionEvaluation",
    "CaptionWriter",
    "EndTogether",
    "FiniteLoss",
    "ProgressLines",
    "Requeue",
    "SameFolder",
    "SampleLogger",
    "TrainingClock",
    "TruthEvaluation",
    "WeightAverage",
]
