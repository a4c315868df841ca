"""``python -m benchmarks.gpu``: what the other pages measure on a processor, on one GPU, in minutes.

Captions against the plain loop (``benchmarks.generation``), against BLIP (``benchmarks.versus_ar``), and a training
step (``benchmarks.training_step``), at full size with random weights. GPUs come by the minute: settings are measured in
the order of their worth, each is kept in ``--work`` as it is done, and a second call measures what is left. Compiling
is done anew for every shape, about a minute each.
"""

from __future__ import annotations

import copy
import functools
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.blip import blip, captioning, in_mode
from benchmarks.full_size import (
    SIZES,
    Size,
    at_length,
    diffuser,
    full_size,
    image_encoder,
    ours,
    pictures,
    plain_loop,
    runner,
    text_space,
)
from benchmarks.generation import counted, matmul_peak
from benchmarks.pages import count, left_out, options, publish, table, words
from benchmarks.rows import Cell, Rows
from benchmarks.timing import interleaved, machine
from benchmarks.training_step import HALF, WITH, WITHOUT, Training
from ladic.captioner import LatentDiffusionCaptioner
from ladic.components import RenoiseSampler

STEPS = (5, 34)
BEAMS = 5
PLAIN, PEAK = "plain", "peak"
LENGTHS = (16, 8, 60, 32, 24)
NARROW = {"five": 5, "one": 1}
"""Evaluations of the model of the text's width, without a second pass for guidance."""


def cells(given: Namespace) -> list[Cell]:
    """Settings, those that matter most first."""
    one, some, many = given.batches
    first: list[Cell] = [{"what": PEAK}, {"what": "generation", "batch": one, "compiled": False}]
    first += [{"what": "versus", "batch": batch, "length": LENGTHS[0], "compiled": False} for batch in (one, many)]
    first += [{"what": "generation", "batch": some, "compiled": False}, {"what": "training"}]
    first += [
        {"what": "versus", "batch": batch, "length": length, "compiled": False}
        for length in LENGTHS[1:]
        for batch in (one, many)
    ]
    first += [{"what": "versus", "batch": one, "length": LENGTHS[0], "compiled": True}]
    first += [{"what": "generation", "batch": batch, "compiled": True} for batch in (some, one)]
    return [*first, {"what": "versus", "batch": many, "length": LENGTHS[0], "compiled": True}]


def main(argv: list[str] | None = None) -> None:
    """Measures what isn't there yet and writes the page."""
    parser = options(__doc__ or "", "gpu", precision=None, batch=None)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to see that it runs")
    parser.add_argument(
        "--batches", type=count, nargs=3, default=[1, 64, 256], help="rising: of both, of the plain loop, and of BLIP"
    )
    given = parser.parse_args(argv)
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: PyTorch sees no GPU; give --device cpu --size toy to see that it runs")
    if sorted(set(given.batches)) != given.batches:
        parser.error(f"--batches {' '.join(map(str, given.batches))}: need three numbers that rise")
    rows = Rows(given.work / "rows.jsonl", machine=machine(given.device), size=given.size, rounds=given.rounds)
    bench = functools.cache(lambda: Bench(given))
    left = rows.fill(cells(given), lambda cell: bench().measured(cell), given.minutes)
    write(given, [line for cell in cells(given) if (line := rows.get(cell)) is not None], left)


class Bench:
    """The models, built once.

    Args:
        given: the options.
    """

    def __init__(self, given: Namespace) -> None:
        self.given, self.size, self.device = given, SIZES[given.size], given.device
        self.timed = partial(interleaved, rounds=given.rounds, warmup=2, device=self.device)
        self.exact = full_size(STEPS[0], size=self.size).to(self.device)
        self.half = copy.deepcopy(self.exact).accelerate("bf16")
        self.length = self.exact.length

    def measured(self, cell: Cell) -> dict[str, Any]:
        """One setting."""
        begun = time.monotonic()
        given = {name: value for name, value in cell.items() if name != "what"}
        found: dict[str, Any] = getattr(self, cell["what"])(**given)
        return {**found, "took": round(time.monotonic() - begun, 1)}

    def peak(self) -> dict[str, Any]:
        """Rates of large products, operations a second."""
        size = 8192 if self.device == "cuda" else 256
        dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
        return {name: matmul_peak(dtype, size, device=self.device) for name, dtype in dtypes.items()}

    def generation(self, batch: int, compiled: bool) -> dict[str, Any]:
        """Against the plain loop; compiled alone is measured beside bf16."""
        images, ids = pictures(batch, self.size, device=self.device)
        models = {"bf16": self.half}
        models |= {"bf16, compiled": self.compiled()} if compiled else {"fp32": self.exact}
        found: dict[str, Any] = {}
        for steps in STEPS:
            for model in (self.exact, *models.values()):
                at_length(model, self.length).sampler = RenoiseSampler(steps)
            latents: dict[str, Tensor] = {}

            def kept(name: str, run: Callable[[], Tensor], into: dict[str, Tensor] = latents) -> None:
                into[name] = run()

            runs = {name: partial(ours, model, images, ids) for name, model in models.items()}
            runs[PLAIN] = partial(plain_loop, self.exact, images, ids)
            # A compiled part runs twice before its graph is replayed.
            seconds = self.timed({name: partial(kept, name, run) for name, run in runs.items()}, warmup=1 + compiled)
            reference = latents[PLAIN]
            found[str(steps)] = {
                "seconds": seconds,
                "operations": counted(self.exact, images[:1]),
                "apart": {
                    name: float((value - reference).norm() / reference.norm()) for name, value in latents.items()
                },
            }
        return found

    def versus(self, batch: int, length: int, compiled: bool) -> dict[str, Any]:
        """Against BLIP, from pixels to strings, weights in bf16."""
        images, ids = pictures(batch, self.size, device=self.device)
        self.half.sampler = RenoiseSampler(STEPS[0])
        runs = {"wide": runner(at_length(self.half, length), "bf16")}
        if compiled:
            runs = {"compiled": runner(self.compiled(length), None)}
        else:
            for name, model in self.narrow.items():
                runs[name] = runner(at_length(model, length), "bf16")
        competitors: dict[str, Callable[[], object]] = {name: partial(run, images, ids) for name, run in runs.items()}
        for name, beams in (("greedy", 1), ("beam", BEAMS)):
            competitors[name] = partial(self.blip, images, length - 1, beams)
        competitors["vit"] = partial(self.encode, images)
        return {"seconds": self.timed(competitors)}

    def training(self) -> dict[str, Any]:
        """A step with cached features."""
        batch = 64 if self.given.size == "paper" else 4
        training = Training(self.size, batch, device=self.device)
        found: dict[str, Any] = {"batch": batch, "apart": training.apart(), "memory": {}}
        steps = training.steps()
        found["seconds"] = self.timed(steps)
        for name, step in steps.items() if self.device == "cuda" else ():
            torch.cuda.empty_cache()
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            step()
            found["memory"][name] = (torch.cuda.max_memory_allocated() - before) / 2**30
        return found

    def compiled(self, length: int | None = None) -> LatentDiffusionCaptioner:
        """The wide model, to be compiled for the first shape that it meets."""
        torch._dynamo.reset()
        model = copy.deepcopy(self.exact).accelerate("bf16", compile=True)
        model.sampler = RenoiseSampler(STEPS[0])
        return at_length(model, length or self.length)

    @functools.cached_property
    def narrow(self) -> dict[str, LatentDiffusionCaptioner]:
        """Of the text's width, one network."""
        parts = {"encoder": self.exact.image_encoder, "space": self.exact.latent_space, "size": self.size}
        first, *others = NARROW.items()
        made = {first[0]: full_size(first[1], scale=1.0, denoiser=diffuser(self.size, self.size.text[0]), **parts)}
        network = made[first[0]].denoiser
        for name, steps in others:
            made[name] = full_size(steps, scale=1.0, denoiser=lambda **_: network, **parts)
        one = copy.deepcopy(made).values()
        return dict(zip(made, (model.to(self.device).accelerate("bf16") for model in one), strict=True))

    @functools.cached_property
    def blip(self) -> Callable[..., object]:
        """The opponent."""
        space = text_space(self.size, length=24)
        model = in_mode(blip(image_encoder(self.size), space.tokenizer, self.size).to(self.device), "bf16")
        return captioning(model, space.tokenizer, "bf16")

    @torch.inference_mode()
    def encode(self, images: Tensor) -> None:
        """The ViT alone, in bf16."""
        self.half.image_encoder(images)


def write(given: Namespace, lines: Sequence[dict[str, Any]], left: Sequence[Cell]) -> None:
    """The page, from at least one setting."""
    commits, dates = (", ".join(dict.fromkeys(line[name] for line in lines)) for name in ("commit", "date"))
    page = [
        "# On one GPU",
        "",
        "`python -m benchmarks.gpu`: the paper's model at full size (ViT-B/16 at 224 pixels, 24 positions, a diffuser",
        "of 12 layers and width 1536, BERT-base; 768 wide where it says so), random weights, from pixels to strings.",
        "",
        f"- {lines[0]['cell']['machine']}; seed 0; {given.size} sizes; commit {commits}; {dates}",
        f"- medians of {given.rounds} rounds after one or two to warm up, alternatives in turn",
    ]
    found = {what: [line for line in lines if line["cell"]["what"] == what] for what in (PEAK, "generation", "versus")}
    peaks = found[PEAK][0] if found[PEAK] else None
    if peaks is not None:
        rates = f"{peaks['fp32'] / 1e12:.1f} TFLOP/s in fp32 (no TF32) and {peaks['bf16'] / 1e12:.0f} in bf16"
        page.append(f"- large matrix products run at {rates}")
    page += words(given.page)
    if found["generation"]:
        page += ["", "## Against the plain loop", "", *generation_table(found["generation"], peaks)]
    if found["versus"]:
        page += ["", "## Against BLIP", "", *versus_table(found["versus"], SIZES[given.size])]
    for line in lines:
        if line["cell"]["what"] == "training":
            page += ["", "## A training step", "", *training_table(line)]
    publish(given.page, [*page, *left_out([in_words(cell) for cell in left])])


def in_words(cell: Cell) -> str:
    """A setting, for those that the time was too short for."""
    words = [str(cell["what"])]
    words += [f"of {cell[name]} {unit}" for name, unit in (("batch", "pictures"), ("length", "tokens")) if name in cell]
    return " ".join([*words, *(["compiled"] if cell.get("compiled") else [])])


def generation_table(lines: Sequence[dict[str, Any]], peaks: dict[str, float] | None) -> list[str]:
    """A row for each batch, number of steps and way to compute."""
    rows = []
    for line in sorted(lines, key=lambda line: (line["cell"]["batch"], line["cell"]["compiled"])):
        batch = line["cell"]["batch"]
        for steps, found in ((steps, line[str(steps)]) for steps in STEPS):
            for name, seconds in found["seconds"].items():
                gain, apart = found["seconds"][PLAIN] / seconds, f"{found['apart'][name]:.0e}"
                limit = ""
                if peaks is not None and name != PLAIN:
                    limit = f"{seconds * peaks[name[:4]] / batch / found['operations']:.2f}"
                told = "plain loop, fp32" if name == PLAIN else name
                row = [str(batch), str(steps), str(2 * steps), told, f"{1000 * seconds / batch:.2f}", f"{gain:.1f}"]
                rows.append([*row, f"{found['operations'] / 1e9:.0f}", limit, apart])
    head = ["pictures at a time", "steps", "NFE", "", "ms a picture", "times as fast", "GFLOP a picture"]
    return [
        *table([*head, "over the limit", "latents apart"], rows),
        "",
        'The plain loop does in every step what the released code does, in fp32. "Over the limit": the time over that',
        'of as many operations at the rate of large products. "Apart": norm of the difference of the latents over',
        "theirs.",
    ]


def versus_table(lines: Sequence[dict[str, Any]], size: Size) -> list[str]:
    """A row for each batch, length and way to compute."""
    wide = f"{size.width} wide, {STEPS[0]} guided"
    shown = {"wide": wide, "compiled": f"{wide}, compiled"}
    shown |= {name: f"{size.text[0]} wide, {steps} unguided" for name, steps in NARROW.items()}
    rows = []
    for line in sorted(lines, key=lambda line: (line["cell"]["batch"], line["cell"]["length"])):
        seconds, cell = line["seconds"], line["cell"]
        for name, told in shown.items():
            if name in seconds:
                row = [str(cell["batch"]), str(cell["length"]), told, f"{1000 * seconds[name]:.1f}"]
                row += [f"{1000 * seconds[other]:.1f}" for other in ("vit", "greedy", "beam")]
                rows.append([*row, *(f"{seconds[other] / seconds[name]:.2f}" for other in ("greedy", "beam"))])
    head = ["pictures", "tokens", "ours", "ms", "ms of the ViT alone", "BLIP greedy, ms", f"{BEAMS} beams, ms"]
    return [
        "transformers' BLIP-base behind the same ViT, key-value cache, weights in bf16 as ours; captions of one",
        "length.",
        "",
        *table([*head, "greedy over ours", "beams over ours"], rows),
    ]


def training_table(line: dict[str, Any]) -> list[str]:
    """A row for each way to take a step."""
    seconds = line["seconds"]
    plain = (seconds[WITHOUT] + seconds[WITH]) / 2
    told = {WITHOUT: "plain, fp32, without the earlier estimate", WITH: "plain, fp32, with it"}
    told |= {WITHOUT + HALF: "plain, bf16 autocast, without", WITH + HALF: "plain, bf16 autocast, with it"}
    rows = []
    for name, step in seconds.items():
        memory = f"{line['memory'][name]:.2f}" if name in line["memory"] else ""
        rows.append([told.get(name, f"ours, {name}"), f"{1000 * step:.1f}", f"{plain / step:.2f}", memory])
    return [
        f"Batch {line['batch']}, cached image tokens in ours; losses apart in fp32: {line['apart']:.0e} at most.",
        "",
        *table(["", "ms a step", "times as fast as the plain mean, fp32", "GiB added at most"], rows),
    ]


if __name__ == "__main__":
    main()
