"""``python -m benchmarks.study_latency``: seconds a picture against caption length for rows of the Flickr8k study.

The paper's Figure 2a at the study's sizes: rows of ``configs/study/flickr8k_study.yaml`` with all their options but the
length, which all captions are forced to, from image tokens to the chosen string. Weights of the networks are random:
they don't change what is computed. Needs the files that ``ladic sweep`` prepares for these rows.

Each length is a row of ``--work``; all that is in a row took turns in one run. Writes ``results/study_latency.md`` and
``.png``. An estimated 5 minutes on two cores.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.figures import plot
from benchmarks.pages import conditions, count, left_out, options, publish, table
from benchmarks.rows import Cell, Rows
from benchmarks.timing import interleaved, precision
from ladic.captioner_base import Captioner
from ladic.cli.lightning_cli import built, parse
from ladic.length_control import LengthRange
from ladic.precision import fast_autocast
from ladic.sweep import Run, read_sweep
from ladic.types import CaptionBatch

ROWS = ("autoregressive-greedy", "autoregressive", "autoregressive-words", "plus-ddim-1", "plus-one", "plus")


def main(argv: list[str] | None = None) -> None:
    """Measures what isn't there yet and writes the page."""
    parser = options(__doc__ or "", "study_latency", precision=None, sizes=False)
    parser.add_argument("--sweep", type=Path, default=Path("configs/study/flickr8k_study.yaml"))
    parser.add_argument("--only", default=",".join(ROWS), help="rows, comma-separated")
    parser.add_argument("--lengths", type=count, nargs="+", default=[8, 16, 24, 32, 60], help="tokens of a caption")
    given = parser.parse_args(argv)
    if min(given.lengths) < 3:
        parser.error(f"--lengths {min(given.lengths)}: accepted are 3 and more, a word between [CLS] and [SEP]")
    wanted = given.only.split(",")
    chosen = {run.row.name: run for run in read_sweep(given.sweep).runs(wanted)}
    rows = Rows(given.work / "rows.jsonl", sweep=str(given.sweep), batch=given.batch, rounds=given.rounds, rows=wanted)
    cells: list[Cell] = [{"length": length} for length in sorted(set(given.lengths))]
    left = rows.fill(cells, lambda cell: seconds(given, chosen, cell["length"]), given.minutes)
    write(given, [line for cell in cells if (line := rows.get(cell)) is not None], left)


def seconds(given: Namespace, chosen: dict[str, Run], length: int) -> dict[str, Any]:
    """Of a batch, by row; and the network's evaluations for a picture."""
    runs: dict[str, Callable[[], int]] = {name: captioning(run, length, given.batch) for name, run in chosen.items()}
    return {"seconds": interleaved(runs, given.rounds, 1), "nfe": {name: run() for name, run in runs.items()}}


def captioning(run: Run, length: int, batch: int) -> Callable[[], int]:
    """Captions a batch with the captioner of a run's row, built for this length; the evaluations for a picture."""
    words = run.options()
    model = parse(words).model
    positions = "length" if "length" in model.get("init_args", model) else "latent_space.length"
    captioner: Captioner = built([*words, f"--model.{positions}={length}", "--log_to=[]"]).model.eval()
    encoder = captioner.image_encoder
    shape = (batch, encoder.num_tokens, encoder.width)
    tokens = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    pictures: CaptionBatch = {"image_id": list(range(batch)), "image_tokens": tokens}
    return partial(caption, captioner, pictures, LengthRange(length - 2, length - 2))


@torch.no_grad()
def caption(captioner: Captioner, pictures: CaptionBatch, length: LengthRange) -> int:
    """From tokens to scored strings, as in a test."""
    with fast_autocast():
        found = captioner.candidates(pictures, length=length)
    return found.nfe[0] * captioner.rows + found.selection_nfe[0]


def write(given: Namespace, lines: Sequence[dict[str, Any]], left: Sequence[Cell]) -> None:
    """The page and its plot."""
    page = [
        "# Seconds by caption length at the study's sizes",
        "",
        f"`python -m benchmarks.study_latency`: the paper's Figure 2a for rows of `{given.sweep}`,",
        "from image tokens to the chosen caption, all captions forced to so many tokens, [CLS] and [SEP] among them;",
        "networks with random weights.",
        "At full size, from pixels and against BLIP: [versus_ar](versus_ar.md).",
        "",
    ]
    if lines:
        names = list(lines[0]["seconds"])
        shown = [
            [str(line["cell"]["length"]), *(f"{1000 * line['seconds'][name] / given.batch:.1f}" for name in names)]
            for line in lines
        ]
        spent = [[str(line["cell"]["length"]), *(str(line["nfe"][name]) for name in names)] for line in lines]
        page += [
            conditions(precision(), f"batch {given.batch}", "seed 0", lines=lines),
            f"- medians of {given.rounds} rounds after one to warm up; all numbers of a length took turns in one run",
            "",
            "Milliseconds a picture:",
            "",
            *table(["tokens", *names], shown),
            "",
            f"![milliseconds against caption length]({given.page.stem}.png)",
            "",
            "Evaluations of the network for a picture (NFE), a step of each caption of a beam being one:",
            "",
            *table(["tokens", *names], spent),
        ]
        curves = {
            name: [(line["cell"]["length"], 1000 * line["seconds"][name] / given.batch) for line in lines]
            for name in names
        }
        plot(given.page.with_suffix(".png"), {"tokens": curves}, f"milliseconds a picture, {precision()}")
    publish(given.page, [*page, *left_out([f"length {cell['length']}" for cell in left])])


if __name__ == "__main__":
    main()
