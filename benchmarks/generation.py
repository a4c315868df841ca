"""``python -m benchmarks.generation``: seconds for a caption, against a loop that samples as the released code does.

Same weights and the same noise, so that the latents have to be equal in fp32; the page says how far all are apart. What
the machine could do at best is the counted floating-point operations over the rate of a large matrix product of the
same precision. Twelve minutes on two cores with AMX without the cases of 64 pictures; each case is kept as it is done.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.full_size import SIZES, Size, full_size, ours, pictures, plain_loop
from benchmarks.pages import conditions, left_out, options, publish, words
from benchmarks.rows import Cell, Rows
from benchmarks.timing import interleaved
from ladic.acceleration import DTYPES
from ladic.captioner import LatentDiffusionCaptioner

CASES = ((1, 5), (8, 5), (1, 34), (8, 34), (64, 5), (64, 34))
"""Pictures at a time, and steps."""
LONGEST = 64 * 5
"""Pictures times steps beyond which the plain loop is not waited for."""
LONG = 100
"""Pictures times steps beyond which there is one round."""
VARIANTS: tuple[tuple[Literal["fp32", "bf16"], bool], ...] = (("fp32", False), ("bf16", False), ("bf16", True))
"""Precision, and whether parts are compiled."""


def main(argv: list[str] | None = None) -> None:
    """Measures what isn't there yet and writes the page."""
    parser = options(__doc__ or "", "generation", precision=None, batch=None, rounds=3)
    names = [f"{batch}x{steps}" for batch, steps in CASES]
    parser.add_argument("--cases", nargs="+", default=names, choices=names, metavar="BxS", help="pictures and steps")
    given = parser.parse_args(argv)
    rows = Rows(given.work / "rows.jsonl", size=given.size, rounds=given.rounds)
    cells: list[Cell] = [{"case": case} for case in given.cases]
    left = rows.fill(cells, lambda cell: measured(cell["case"], given.rounds, SIZES[given.size]), given.minutes)
    write(given, [line for cell in cells if (line := rows.get(cell)) is not None], left)


def measured(case: str, rounds: int, size: Size) -> dict[str, Any]:
    """Rows of the table, one a variant, and rates of large products just before."""
    batch, steps = map(int, case.split("x"))
    peaks = {name: matmul_peak(DTYPES[name]) for name in ("fp32", "bf16")}
    torch._dynamo.reset()  # or the models of several cases together reach the limit of how often it compiles
    images, ids = pictures(batch, size)
    exact = full_size(steps, size=size)
    flops = counted(exact, images[:1]) * batch
    latents: dict[str, Tensor] = {}

    def kept(name: str, run: Callable[[], Tensor]) -> None:
        latents[name] = run()

    runs: dict[str, Callable[[], Tensor]] = {}
    if batch * steps <= LONGEST:
        runs["plain"] = partial(plain_loop, exact, images, ids)
    for precision, compile in VARIANTS:
        model = exact if precision == "fp32" else full_size(steps, size=size).accelerate(precision, compile)
        runs[f"{precision}, compiled" if compile else precision] = partial(ours, model, images, ids)
    long = batch * steps > LONG
    for name, run in runs.items():
        if not (long and name == "plain"):
            kept(name, run)  # to warm up, and to compile
    times = interleaved({name: partial(kept, name, run) for name, run in runs.items()}, 1 if long else rounds, warmup=0)
    rows = []
    for name in list(runs)[-len(VARIANTS) :]:
        limit = flops / peaks[name.split(",")[0]]
        gain = f"{times['plain'] / times[name]:.1f}" if "plain" in times else ""
        reference = latents["plain" if "plain" in latents else "fp32"]
        apart = float((latents[name] - reference).norm() / reference.norm())
        rows.append(
            f"| {batch} | {steps} | {2 * steps} | {name} | {times[name] / batch:.3f} | {gain} "
            f"| {flops / batch / 1e9:.0f} | {times[name] / limit:.2f} | {apart:.0e} | {1 if long else rounds} |"
        )
    if "plain" in times:
        slow, cold = times["plain"] / batch, "1, cold" if long else rounds
        rows.insert(0, f"| {batch} | {steps} | {2 * steps} | plain loop, fp32 | {slow:.3f} | 1 | | | | {cold} |")
    return {"rows": rows, "peaks": peaks}


def counted(model: LatentDiffusionCaptioner, image: Tensor) -> int:
    """Floating-point operations of a picture, when the null image's keys and values are there already."""
    ours(model, image, [0])
    with FlopCounterMode(display=False) as counter:
        ours(model, image, [0])
    return counter.get_total_flops()


def matmul_peak(dtype: torch.dtype, size: int = 4096, rounds: int = 10, device: str = "cpu") -> float:
    """Floating-point operations a second of a matrix product."""
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    seconds = interleaved({"product": lambda: left @ right}, rounds, device=device)["product"]
    return 2 * size**3 / seconds


def write(given: argparse.Namespace, lines: Sequence[dict[str, Any]], left: Sequence[Cell]) -> None:
    """The page."""
    rates = [
        f"{line['cell']['case']}: {line['peaks']['fp32'] / 1e9:.0f} and {line['peaks']['bf16'] / 1e9:.0f}"
        for line in lines
    ]
    page = [
        "# Generation",
        "",
        "`python -m benchmarks.generation`: the paper's model at full size (ViT-B/16 at 224 pixels, 24 positions, a",
        "diffuser of 12 layers and width 1536, BERT-base), random weights, guided; medians, alternatives in turn.",
        "The plain loop runs the ViT twice and makes all keys and values anew in every step, as the released code.",
        "",
        conditions("fp32 and bf16", "seed 0", f"{given.size} sizes", lines=lines),
        f"- large matrix products, GFLOP/s in fp32 and in bf16, before each case: {'; '.join(rates)}",
        "",
        "| pictures at a time | steps | NFE | | s a picture | times as fast | GFLOP a picture | over the limit "
        "| latents apart | rounds |",
        "|---:|---:|---:|---|---:|---:|---:|---:|---:|---:|",
        *(row for line in lines for row in line["rows"]),
        "",
        '"Over the limit": the time, over that of as many operations at the rate of large products in that precision.',
        f"Beyond {LONG} pictures times steps there is one round, and the plain loop isn't warmed up for it; beyond",
        f'{LONGEST} it is not waited for. "Apart": norm of the difference of the latents over their norm, from the',
        "plain loop, else from fp32.",
    ]
    publish(given.page, [*page, *left_out([cell["case"] for cell in left]), *words(given.page)])


if __name__ == "__main__":
    main()
