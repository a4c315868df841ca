"""Sweeps: rows of configurations over seeds, run one after the other, resumed where cut off, gathered into one table.

SWEEP.yaml --reading--> rows and runs --running--> OUTPUT/ROW/seed-S/… --results--> results.csv, .md and .png
"""

from ladic.sweep.definition import Prepare, Row, Run, Sweep
from ladic.sweep.reading import read_sweep
from ladic.sweep.running import Runner

__all__ = ["Prepare", "Row", "Run", "Runner", "Sweep", "read_sweep"]
