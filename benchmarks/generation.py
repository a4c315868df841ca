"""``python -m benchmarks.generation``: seconds for a caption, against a loop that samples as the released code does.

Same weights and the same noise, so that the latents have to be equal; the page says how far they are apart. What the
machine could do at best is the counted floating-point operations over the rate of a large matrix product.
"""

from __future__ import annotations

import argparse
import datetime
from functools import partial
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.full_size import full_size, ours, plain_loop
from benchmarks.pages import commit
from benchmarks.timing import interleaved, machine

PAGE = Path(__file__).parent / "results" / "generation.md"
CASES = ((1, 5), (1, 34), (8, 5), (8, 34))
"""Pictures at a time, and evaluations."""


def main() -> None:
    """Measures and writes the page, case by case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="in turn, after one to warm up (of the longest case: 1)")
    options = parser.parse_args()
    peak, rows = matmul_peak(), []
    for batch, steps in CASES:
        rounds, warmup = (1, 0) if batch * steps > 100 else (options.rounds, 1)
        rows.append(measured(batch, steps, rounds, warmup, peak))
        print(rows[-1], flush=True)
        write(rows, peak)
    print(PAGE.read_text(encoding="utf-8"))


def measured(batch: int, steps: int, rounds: int, warmup: int, peak: float) -> str:
    """A row of the table."""
    model = full_size(steps)
    images = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    ids: list[int | str] = list(range(batch))
    with FlopCounterMode(display=False) as counter:
        fast = ours(model, images[:1], ids[:1])
    slow = plain_loop(model, images[:1], ids[:1])
    apart = float((fast - slow).norm() / slow.norm())
    flops = counter.get_total_flops()
    times = interleaved(
        {name: partial(run, model, images, ids) for name, run in (("plain", plain_loop), ("ours", ours))},
        rounds,
        warmup,
    )
    plain, quick = (times[name] / batch for name in ("plain", "ours"))
    return (
        f"| {batch} | {steps} | {2 * steps} | {plain:.2f} | {quick:.2f} | {plain / quick:.1f} | {flops / 1e9:.0f} "
        f"| {quick / (flops / peak):.2f} | {apart:.0e} | {rounds} |"
    )


def matmul_peak(size: int = 2048, rounds: int = 10) -> float:
    """Floating-point operations a second of a float32 matrix product."""
    matrix = torch.randn(size, size)
    seconds = interleaved({"product": lambda: matrix @ matrix}, rounds)["product"]
    return 2 * size**3 / seconds


def write(rows: list[str], peak: float) -> None:
    """The page so far."""
    lines = [
        "# Generation",
        "",
        "`python -m benchmarks.generation`: the paper's model at full size (ViT-B/16 at 224 pixels, 24 positions, a",
        "diffuser of 12 layers and width 1536, BERT-base), random weights, guided; medians, the two in turn. The plain",
        "loop runs the ViT twice and makes all keys and values again in every step, as the released code does.",
        "",
        f"- {machine()}; fp32; seed 0; commit {commit()}; {datetime.date.today().isoformat()}",
        f"- large matrix products run at {peak / 1e9:.0f} GFLOP/s",
        "",
        "| pictures at a time | steps | NFE | plain, s a picture | ours | times as fast | GFLOP of one picture alone "
        "| ours over the limit | latents apart | rounds |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        *rows,
        "",
        '"Over the limit": the time, over that of as many operations at the rate of large products. The operations are',
        "counted for a picture alone, with the image that stands for none, which several pictures share.",
    ]
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
