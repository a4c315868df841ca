"""Callbacks: evaluation and what is written during a run."""
