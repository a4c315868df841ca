"""Sweeps: rows of configurations over seeds, one after the other or side by side, resumed where cut off, in one table.

SWEEP.yaml --reading--> rows and runs --running--> OUTPUT/ROW/seed-S/… --results--> results.csv, .md and .png
                                  (side_by_side: so many processes that do so, each with some of the runs)
"""

from ladic.sweep.definition import Prepare, Row, Run, Sweep
from ladic.sweep.reading import read_sweep
from ladic.sweep.record import is_finished
from ladic.sweep.running import Runner
from ladic.sweep.side_by_side import SideBySide

__all__ = ["Prepare", "Row", "Run", "Runner", "SideBySide", "Sweep", "is_finished", "read_sweep"]
