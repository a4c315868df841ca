"""``python -m benchmarks.sampling RUN…``: samplers, steps, guidance, Back&Refine and candidates on trained models.

Every cell of the table is a line of ``RUN/sampling.jsonl``, so that a stopped run goes on where it was. Cells come in
the order of what their answers decide; those that ``--minutes`` have no room for are left out and named on the page.
Cells that differ in the number of candidates or in the selector alone share their draws. Writes
``benchmarks/results/sampling.md``.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import rows
from benchmarks.pages import RESULTS, commit
from benchmarks.sampling_page import page
from benchmarks.timing import machine, precision
from benchmarks.trained import Pictures, TrainedModel
from ladic.checkpoints import find_checkpoint
from ladic.cli.words import component
from ladic.components import Sampler
from ladic.guidance import ClassifierFreeGuidance
from ladic.rerank import CiderUtility, FirstSelector, MinimumBayesRiskSelector

STEPS = (1, 2, 5, 10, 20, 30, 50)
SAMPLERS = {
    "Renoise": "RenoiseSampler",
    "DDIM": "DDIMSampler",
    "Ancestral": "AncestralSampler",
    "DPM-Solver 2M": "DPMSolverSampler",
    "DPM-Solver 2M, log SNR": "DPMSolverSampler:spacing=log_snr",
    "Heun": "HeunSampler",
}
BACK = {
    "paper": "",
    "t = 0.8": ",at=0.8",
    "drop 0.2": ",drop=0.2",
    "threshold 0.5": ",threshold=0.5",
    "forgetting": ",forget=true",
    "released branch": ",at=0.6,drop=0.3334,skip=1",
}
MOST = 20
SELECTORS = ("mbr-bleu", "mbr-cider", "own")


@dataclass(frozen=True)
class Cell:
    """One setting.

    Attributes:
        group: which table it belongs to.
        name: its row.
        sampler: as on the command line.
        steps: of it.
        scale: of guidance.
        candidates: drawn for each picture.
        selector: "first", "mbr-bleu", "mbr-cider", or "own", the checkpoint's.
        start: guidance acts from this time on.
    """

    group: str
    name: str
    sampler: str
    steps: int
    scale: float = 1.0
    candidates: int = 1
    selector: str = "first"
    start: float = 1.0

    @property
    def draws(self) -> str:
        """Key of what is sampled, whatever is chosen of it."""
        return json.dumps([self.sampler, self.steps, self.scale, self.start])


def cells(guided: bool) -> Iterator[Cell]:
    """All of a model, the questions that decide defaults first.

    Args:
        guided: whether it was trained without its image at times, so that guidance means something.
    """
    for steps in (10, 20, 5):
        yield from (Cell("samplers", name, sampler, steps) for name, sampler in SAMPLERS.items())
    drawn = [(20, 1.0), (10, 1.0), *([(10, 2.0), (20, 2.0), (20, 1.5)] if guided else [])]
    yield from (cell for steps, scale in drawn for cell in candidates_of(steps, scale))
    for steps, totals in ((20, (31, 25, 28)), (10, (16, 13, 14))):  # as many evaluations as the variants take
        yield from (Cell("back", "RenoiseSampler alone", "RenoiseSampler", total) for total in totals)
        for name, words in BACK.items():
            yield Cell("back", f"RenoiseSampler, {name}", f"BackAndRefine:sampler=RenoiseSampler{words}", steps)
        yield Cell("back", "DDIMSampler alone", "DDIMSampler", totals[0])
        yield Cell("back", "DDIMSampler, paper", "BackAndRefine:sampler=DDIMSampler", steps)
    if guided:
        for steps in (10, 20, 5):
            for scale in (1.5, 2.0):
                for name in ("Renoise", "DDIM", "DPM-Solver 2M"):
                    yield Cell("guidance", name, SAMPLERS[name], steps, scale)
        yield from (Cell("guidance", "Renoise", "RenoiseSampler", 10, scale) for scale in (1.25, 3.0))
        yield Cell("guidance", "Renoise, only t <= 0.7", "RenoiseSampler", 10, 2.0, start=0.7)
    for steps in (30, 2, 1, 50):
        yield from (Cell("samplers", name, sampler, steps) for name, sampler in SAMPLERS.items())
    yield from candidates_of(5, 1.0)
    if guided:
        for steps in (30, 2, 1, 50):
            yield from (Cell("guidance", "Renoise", "RenoiseSampler", steps, scale) for scale in (1.5, 2.0))


def candidates_of(steps: int, scale: float) -> Iterator[Cell]:
    """How many candidates, and who chooses among them."""
    for candidates in (MOST, 10, 5, 1):
        for selector in SELECTORS if candidates > 1 else ("first",):
            yield Cell("candidates", "Renoise", "RenoiseSampler", steps, scale, candidates, selector)


def sampler_of(cell: Cell) -> Sampler:
    return component(cell.sampler, "samplers", Sampler).with_steps(cell.steps)


def evaluations(cell: Cell, pictures: int, model: TrainedModel) -> int:
    """Rows times network evaluations that a cell takes, by walking its sampler with a free network."""
    count = 0

    def free(x_t: torch.Tensor, t: torch.Tensor, x0_prev: torch.Tensor | None) -> torch.Tensor:
        nonlocal count
        count += 2 if guidance_of(cell).active(float(t[0])) else 1
        return x_t

    schedule = model.captioner.noise_schedule
    x = torch.zeros(1, 4, 1)
    sampler_of(cell).sample(free, x, schedule, lambda: x, confidence=lambda x0: torch.arange(4.0)[None] / 4)
    return count * pictures * drawn_for(cell)


def drawn_for(cell: Cell) -> int:
    """Candidates that are drawn for a cell: all that its table needs."""
    return MOST if cell.group == "candidates" else cell.candidates


def guidance_of(cell: Cell) -> ClassifierFreeGuidance:
    return ClassifierFreeGuidance(cell.scale, start=cell.start)


class Bench:
    """One run's table.

    Args:
        run: folder with the checkpoint.
        pictures: of the validation split, the first.
        batch: rows sampled at once.
    """

    def __init__(self, run: Path, pictures: int, batch: int) -> None:
        self.file = run / "sampling.jsonl"
        self.model = TrainedModel(run)
        self.pictures: Pictures = self.model.pictures(pictures)
        self.batch = batch
        self.done = stored(run)
        if odd := {line["images"] for line in self.done.values()} - {len(self.pictures)}:
            raise SystemExit(f"{self.file}: has cells of {odd.pop()} pictures; give --pictures alike, or move it away")
        self.drawn: dict[str, tuple[list[list[str]], int, float]] = {}
        self.rate: float | None = None

    def cost(self, cell: Cell) -> float:
        """Seconds that the cell will take, 0 where its draws are there."""
        if cell.draws in self.drawn and len(self.drawn[cell.draws][0][0]) >= drawn_for(cell):
            return 0.0
        return evaluations(cell, len(self.pictures), self.model) * (self.rate or 0.0)

    def measure(self) -> None:
        """Seconds of one network evaluation of one row."""
        cell = Cell("warm-up", "Renoise", "RenoiseSampler", 2)
        few = self.pictures.first(min(32, len(self.pictures)))
        for _ in range(2):
            started = time.perf_counter()
            self.model.draw(few, sampler_of(cell), guidance_of(cell), 1, self.batch)
            self.rate = (time.perf_counter() - started) / (2 * len(few))

    def run(self, minutes: float) -> None:
        """Fills the table until the time is used up, leaving out cells that don't fit."""
        self.measure()
        todo = [cell for cell in cells(self.model.guided) if key(cell) not in self.done]
        total, seen = 0.0, set()
        for cell in todo:
            if cell.draws not in seen:
                total += self.cost(cell)
                seen.add(cell.draws)
        print(f"{self.file.parent}: {len(todo)} cells to go, about {total / 60:.0f} minutes; {minutes:.0f} are given")
        end = time.perf_counter() + 60 * minutes
        for cell in todo:
            if time.perf_counter() + self.cost(cell) > end:
                continue
            line = self.measured(cell)
            rows.append(self.file, line)
            self.done[key(cell)] = line
            print(f"  {cell.group}: {cell.name}, {cell.steps} steps, scale {cell.scale}, {cell.candidates} by "
                  f"{cell.selector}: CIDEr-D {line['cider']:.3f}, NFE {line['nfe']}", flush=True)  # fmt: skip

    def measured(self, cell: Cell) -> dict[str, Any]:
        """The line of a cell."""
        known, needed = self.drawn.get(cell.draws), drawn_for(cell)
        if known is None or len(known[0][0]) < needed:
            started = time.perf_counter()
            candidates, nfe = self.model.draw(self.pictures, sampler_of(cell), guidance_of(cell), needed, self.batch)
            known = self.drawn[cell.draws] = (candidates, nfe, time.perf_counter() - started)
            self.rate = known[2] / evaluations(cell, len(self.pictures), self.model)  # as busy as the machine is now
        few = [captions[: cell.candidates] for captions in known[0]]
        started = time.perf_counter()
        captions, spent = self.model.choose(self.pictures, few, self.selector(cell.selector))
        choosing = time.perf_counter() - started
        scores = self.pictures.cider(captions)
        if (
            cell.group == "candidates" and cell.candidates == 1
        ):  # every sample is a single one: their mean is less noisy
            singles = [self.pictures.cider(list(column)) for column in zip(*known[0], strict=True)]
            scores = np.mean(singles, axis=0)
        return {
            "cell": asdict(cell),
            "images": len(self.pictures),
            "guided": self.model.guided,
            "nfe": known[1],
            "selection_nfe": spent,
            "cider": float(scores.mean()),
            "per_image": [round(float(score), 4) for score in scores],
            "seconds": round(known[2] * cell.candidates / len(known[0][0]), 2),
            "choosing_seconds": round(choosing, 2),
            "chooser": type(self.selector(cell.selector)).__name__,
            "commit": commit(),
            "checkpoint": checkpoint_hash(self.file.parent),
            "machine": machine(),
            "date": datetime.date.today().isoformat(),
            "seed": self.model.captioner.seed,
            "precision": precision(),
            "batch": self.batch,
            "threads": torch.get_num_threads(),
        }

    def selector(self, name: str) -> Any:
        if name == "mbr-cider":
            return MinimumBayesRiskSelector(utility=CiderUtility(str(self.model.frequencies)))
        return {
            "first": FirstSelector(),
            "mbr-bleu": MinimumBayesRiskSelector(),
            "own": self.model.captioner.selector,
        }[name]


def main() -> None:
    """Fills the tables and writes the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=20, help="for each run; 0 writes the page of what is there")
    parser.add_argument("--batch", type=int, default=128, help="rows sampled at once")
    options = parser.parse_args()
    if options.minutes > 0:
        for run in options.runs:
            Bench(run, options.pictures, options.batch).run(options.minutes)
    benches, left = {}, {}
    for run in options.runs:
        lines = stored(run)
        wanted = list(cells(any(line.get("guided", False) for line in lines.values())))
        benches[run.name] = [lines[key(cell)] for cell in wanted if key(cell) in lines]
        rest: dict[str, set[int]] = {}
        for cell in wanted:
            if key(cell) not in lines:
                rest.setdefault(f"{cell.group}, {cell.name}", set()).add(cell.steps)
        left[run.name] = [f"{name} at {', '.join(map(str, sorted(steps)))} steps" for name, steps in rest.items()]
    command = f"python -m benchmarks.sampling {' '.join(map(str, options.runs))} --pictures {options.pictures}"
    (RESULTS / "sampling.md").write_text(page(benches, command, left), encoding="utf-8")
    print(f"wrote {RESULTS / 'sampling.md'}")


def key(cell: Cell) -> str:
    return rows.key(asdict(cell))


def stored(run: Path) -> dict[str, dict[str, Any]]:
    """Lines of a run by their cell, of the checkpoint that is there now."""
    lines, now = rows.stored(run / "sampling.jsonl"), checkpoint_hash(run)
    return {cell: line for cell, line in lines.items() if line.get("checkpoint", now) == now}


@functools.cache
def checkpoint_hash(run: Path) -> str:
    """Of the checkpoint that a run's folder stands for: one that was trained again has cells of its own."""
    with find_checkpoint(run).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


if __name__ == "__main__":
    main()
