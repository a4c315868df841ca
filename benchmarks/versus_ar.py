"""``python -m benchmarks.versus_ar``: seconds against caption length, ours and an autoregressive BLIP (Figure 2a).

Ours: the released sizes (a diffuser 1536 wide) with 5 guided evaluations; one of the text model's width with a single
pass, as a distilled one takes; and other widths with 5 guided evaluations, to find which are ahead of greedy search at
every length. The opponent: transformers' BLIP-base with the same ViT, greedy and with 5 beams, with a key-value cache,
in the faster of autocast and bf16 weights, which a CPU has packed as it has ours. All from pixels to strings, at random
weights, and forced to the same lengths.

Each length is a row of ``--work``; all that is in a row took turns in one run. Writes ``results/versus_ar.md`` and
``.png``. An estimated 15 minutes on two cores with bf16 units, 40 in fp32; 6 GB of memory.
"""

from __future__ import annotations

import functools
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.blip import blip, captioning, in_mode
from benchmarks.figures import plot
from benchmarks.full_size import (
    POSITIONS,
    SIZES,
    Size,
    at_length,
    diffuser,
    full_size,
    image_encoder,
    pictures,
    runner,
    text_space,
)
from benchmarks.pages import conditions, count, left_out, options, publish, table, words
from benchmarks.rows import Cell, Rows
from benchmarks.timing import interleaved

STEPS, BEAMS = 5, 5
GREEDY, BEAM, VIT = "greedy", "beam", "vit"
UNGUIDED = {"five": STEPS, "one": 1}
"""Evaluations of the narrower model, which takes a single pass in each, as one that was distilled does."""
WIDTHS = (256, 384, 512, 768, 1024, 1536)


def main(argv: list[str] | None = None) -> None:
    """Measures what isn't there yet and writes the page."""
    parser = options(__doc__ or "", "versus_ar")
    parser.add_argument("--lengths", type=count, nargs="+", default=[8, 16, 24, 32, 60], help="tokens of a caption")
    parser.add_argument("--widths", type=count, nargs="+", help=f"of ours (default: {' '.join(map(str, WIDTHS))})")
    given = parser.parse_args(argv)
    size = SIZES[given.size]
    given.widths = sorted({*(given.widths or (WIDTHS if given.size == "paper" else ())), size.width, size.text[0]})
    for length in given.lengths:
        if not 3 <= length <= POSITIONS:
            parser.error(f"--lengths {length}: accepted are 3 to {POSITIONS}, the positions of the models")
    rows = Rows(
        given.work / "rows.jsonl",
        size=given.size, precision=given.precision, batch=given.batch, rounds=given.rounds, widths=given.widths,
    )  # fmt: skip
    cells: list[Cell] = [{"length": length} for length in sorted(set(given.lengths))]
    race = functools.cache(lambda: Race(given, size))  # nothing is built to write the page again
    left = rows.fill(cells, lambda cell: race().row(cell), given.minutes)
    write(given, [line for cell in cells if (line := rows.get(cell)) is not None], left)


class Race:
    """The models, and their rows.

    Args:
        given: the options.
        size: of the models.
    """

    def __init__(self, given: Namespace, size: Size) -> None:
        self.given, self.images = given, pictures(given.batch, size)
        self.encoder, space = image_encoder(size).eval(), text_space(size, length=24)
        ours = partial(full_size, size=size, encoder=self.encoder, space=space)
        self.guided = {width: ours(STEPS, denoiser=diffuser(size, width)) for width in given.widths}
        narrow = self.guided[size.text[0]].denoiser
        self.unguided = {name: ours(steps, scale=1.0, denoiser=lambda **_: narrow) for name, steps in UNGUIDED.items()}
        self.parameters = {width: parameters(model.denoiser) for width, model in self.guided.items()}
        self.tokenizer, theirs = space.tokenizer, blip(self.encoder, space.tokenizer, size)
        modes = ("fp32",) if given.precision == "fp32" else ("autocast", "bf16")
        runs = {mode: captioning(in_mode(theirs, mode), self.tokenizer, mode) for mode in modes}
        self.theirs, self.modes = {}, {}
        for search, beams in ((GREEDY, 1), (BEAM, BEAMS)):
            tried = {mode: partial(run, self.images[0], 16, beams) for mode, run in runs.items()}
            self.modes[search] = interleaved(tried, 2, 1)
            best = min(self.modes[search], key=self.modes[search].__getitem__)
            self.theirs[search] = partial(runs[best], beams=beams)

    def row(self, cell: Cell) -> dict[str, Any]:
        """Seconds of every competitor at a length."""
        length, (images, ids) = cell["length"], self.images
        models = {**{str(width): model for width, model in self.guided.items()}, **self.unguided}
        runs = {name: runner(model, self.given.precision) for name, model in models.items()}
        for model in models.values():
            at_length(model, length)
        competitors: dict[str, Callable[[], object]] = {
            # Ours has a position for [CLS] and one for [SEP]; theirs needs a step for [SEP] alone.
            **{search: partial(run, images, length - 1) for search, run in self.theirs.items()},
            VIT: self.encode,
            **{name: partial(run, images, ids) for name, run in runs.items()},
        }
        return {
            "seconds": interleaved(competitors, self.given.rounds, 1),
            "nfe": {name: run(images[:1], ids[:1]).nfe for name, run in runs.items()},
            "blip_modes": self.modes,
            "parameters": {str(width): number for width, number in self.parameters.items()},
        }

    @torch.inference_mode()
    def encode(self) -> None:
        """The ViT alone."""
        self.encoder(self.images[0])


def parameters(module: torch.nn.Module) -> int:
    """How many a network has."""
    return sum(parameter.numel() for parameter in module.parameters())


def write(given: Namespace, lines: Sequence[dict[str, Any]], left: Sequence[Cell]) -> None:
    """The page and its plot."""
    size = SIZES[given.size]
    released, narrow = str(size.width), f"{size.text[0]} wide"
    page = [
        "# Against an autoregressive captioner",
        "",
        "`python -m benchmarks.versus_ar`: the paper's Figure 2a, ours against BLIP-base of transformers, both with",
        "random weights, reading pictures through the same ViT-B/16, and forced to captions of the same lengths; from",
        f"pixels to strings. Layers of ours: {size.layers}. At length L ours has L positions, two of them for [CLS]",
        "and [SEP]; BLIP takes L - 1 steps, as for as many words and [SEP].",
        "",
    ]
    if lines:
        nfe = lines[0]["nfe"]
        page += [
            conditions(given.precision, f"batch {given.batch}", "seed 0", f"{given.size} sizes", lines=lines),
            f"- medians of {given.rounds} rounds after one to warm up; all numbers of a length took turns in one run",
            f"- BLIP: greedy and {BEAMS} beams, key-value cache; a CPU's bf16 weights are packed like ours;",
            f"  {modes_told(lines[-1])}",
            f"- ours: weights in {given.precision}; {STEPS} evaluations guided at scale 2 (NFE {nfe[released]}), or "
            f"without a second pass for guidance (NFE {nfe['five']} and {nfe['one']})",
            "",
            f"Seconds for {given.batch} pictures:",
            "",
            *race_table(lines, released, narrow),
            "",
            f"![seconds against caption length]({given.page.stem}.png)",
            "",
            f"Other widths of ours with {STEPS} guided evaluations, as many times as fast as greedy search (seconds):",
            "",
            *width_table(lines),
            "",
            verdict(lines),
        ]
        draw(given, lines, released, narrow)
    publish(given.page, [*page, *left_out([f"length {cell['length']}" for cell in left]), *words(given.page)])


def modes_told(line: dict[str, Any]) -> str:
    """Which of BLIP's ways to compute was taken."""
    tried = [
        f"{search}: " + ", ".join(f"{mode} {seconds:.2f} s" for mode, seconds in times.items())
        for search, times in line["blip_modes"].items()
    ]
    return f"each computing in the way that was the fastest at 16 tokens ({'; '.join(tried)})"


def race_table(lines: Sequence[dict[str, Any]], released: str, narrow: str) -> list[str]:
    """A row for each length."""
    head = ["tokens", "BLIP greedy", f"{BEAMS} beams", "of which the ViT", f"ours, {released} wide, {STEPS} guided"]
    head += ["greedy over it", "beams over it"]
    for steps in UNGUIDED.values():
        head += [f"ours, {narrow}, {steps} unguided", "greedy over it", "beams over it"]
    rows = []
    for line in lines:
        seconds = line["seconds"]
        row = [str(line["cell"]["length"]), *(f"{seconds[name]:.2f}" for name in (GREEDY, BEAM, VIT))]
        for name in (released, *UNGUIDED):
            row += [f"{seconds[name]:.2f}", *(f"{seconds[other] / seconds[name]:.2f}" for other in (GREEDY, BEAM))]
        rows.append(row)
    return table(head, rows)


def width_table(lines: Sequence[dict[str, Any]]) -> list[str]:
    """A row for each width."""
    head = ["width", "parameters", *(f"{line['cell']['length']} tokens" for line in lines)]
    rows = []
    for width, number in lines[0]["parameters"].items():
        ratios = [f"{faster(line, width):.2f} ({line['seconds'][width]:.2f})" for line in lines]
        rows.append([width, f"{number / 1e6:.1f} M", *ratios])
    return table(head, rows)


def faster(line: dict[str, Any], name: str) -> float:
    """How many times as fast as greedy search."""
    return float(line["seconds"][GREEDY] / line["seconds"][name])


def verdict(lines: Sequence[dict[str, Any]]) -> str:
    """Which widths are ahead of greedy search at all lengths."""
    ahead = [width for width in lines[0]["parameters"] if all(faster(line, width) > 1 for line in lines)]
    if not ahead:
        return "No width is ahead of greedy search at every length."
    return f"Ahead of greedy search at every length: {', '.join(ahead)}; the widest is {ahead[-1]}."


def draw(given: Namespace, lines: Sequence[dict[str, Any]], released: str, narrow: str) -> None:
    """Figure 2a."""
    names = {GREEDY: "BLIP, greedy", BEAM: f"BLIP, {BEAMS} beams", released: f"ours, {released} wide, {STEPS} guided"}
    names |= {name: f"ours, {narrow}, {steps} unguided" for name, steps in UNGUIDED.items()}
    curves = {told: [(line["cell"]["length"], line["seconds"][name]) for line in lines] for name, told in names.items()}
    plot(given.page.with_suffix(".png"), {"tokens": curves}, f"seconds for {given.batch} pictures, {given.precision}")


if __name__ == "__main__":
    main()
