"""Measurements: one command each, ``python -m benchmarks.NAME``; results with their conditions lie in ``results/``."""
