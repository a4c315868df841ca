"""``python -m benchmarks.training_step``: seconds and memory of a training step, against one as in the released code.

The same weights and recipe (``configs/experiment/ladic_released.yaml``). Plain: the ViT in every pass, float32, AdamW
parameter by parameter (``benchmarks/plain_training.py``), and the same under bf16 autocast. Ours: image tokens from the
cache, the earlier estimate for half of the rows and without a graph, fused AdamW (``--model.optimizer.fused=true``), in
float32 and in bf16-mixed. The page says how far the losses of the two are apart where they have to be equal. Loading is
in neither.

The whole model at batch 64 by default; a plain step then takes about 45 s, and all of it a quarter of an hour on two
cores and up to 20 GB of memory. ``--batch 16`` is a quarter of that. Fewer ``--layers`` would flatter us: they leave
the ViT.
"""

from __future__ import annotations

import dataclasses
import functools
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.full_size import SIZES, Size, autocast, diffuser, image_encoder, pictures, text_space
from benchmarks.pages import conditions, count, left_out, options, publish, table
from benchmarks.peak import peak
from benchmarks.plain_training import plain_loss, plain_optimizer
from benchmarks.rows import Cell, Rows
from benchmarks.timing import interleaved
from ladic.captioner import LatentDiffusionCaptioner
from ladic.components import DilatedSchedule, LinearSchedule
from ladic.draws import StepDraws, released_draws
from ladic.optim import parameter_groups
from ladic.types import CaptionBatch, TokenBatch

KINDS = {"plain": "plain", "fp32": "ours, fp32", "bf16": "ours, bf16"}
WITHOUT, WITH, HALF = "without", "with", ", bf16"
TARGET = 4.0
CAPTION = "a man riding a wave on top of a surfboard near two dogs"


def main(argv: list[str] | None = None) -> None:
    """Measures what isn't there yet and writes the page."""
    parser = options(__doc__ or "", "training_step", precision=None, batch=64, rounds=3)
    parser.add_argument("--layers", type=count, help="of the diffuser; all of them if not given")
    given = parser.parse_args(argv)
    given.layers = given.layers or SIZES[given.size].layers
    rows = Rows(given.work / "rows.jsonl", size=given.size, batch=given.batch, layers=given.layers)
    times: Cell = {"what": "seconds", "rounds": given.rounds}
    peaks: dict[str, Cell] = {kind: {"what": "memory", "kind": kind} for kind in KINDS}
    left = rows.fill([*peaks.values(), times], lambda cell: measured(given, cell), given.minutes)
    memory = {kind: line for kind, cell in peaks.items() if (line := rows.get(cell)) is not None}
    write(given, rows.get(times), memory, left)


def measured(given: Namespace, cell: Cell) -> dict[str, Any]:
    """One measurement."""
    if cell["what"] == "memory":
        arguments = {"kind": cell["kind"], "size": given.size, "batch": given.batch, "layers": given.layers}
        return dataclasses.asdict(peak("benchmarks.training_step:two_steps", **arguments))
    training = Training(dataclasses.replace(SIZES[given.size], layers=given.layers), given.batch)
    apart = training.apart()
    return {"seconds": interleaved(training.steps(), given.rounds, 1), "apart": apart}


class Training:
    """A model with a batch to train it on, and its steps.

    Args:
        size: of the model.
        batch: pictures.
        length: positions of a caption.
        dropout: of the diffuser and the text model's, as in the released code, or none.
        device: type of what it trains on.
    """

    def __init__(self, size: Size, batch: int, length: int = 24, dropout: bool = True, device: str = "cpu") -> None:
        torch.manual_seed(0)
        self.device = device
        share = 0.1 if dropout else 0.0
        released: dict[str, Any] = {"time": "sinusoids_norm", "time_entries": 1000, "norm_eps": 1e-12, "dropout": share}
        space = text_space(size, length, special_token=".", normalizer_eps=0.0, encoder_dropout=dropout)
        self.model = LatentDiffusionCaptioner(
            image_encoder(size),
            space,
            diffuser(size, **released),
            DilatedSchedule(LinearSchedule(num_steps=1000), training=4.0),
            null_image="zeros",
        )
        self.model.train().to(device)
        self.images, ids = pictures(batch, size, device=device)
        words = CAPTION.split()
        text = space.tokenize([" ".join(words[: 3 + i % len(words)]) for i in range(batch)])
        self.text = TokenBatch(text.input_ids.to(device), text.attention_mask.to(device))
        with torch.no_grad():
            tokens = torch.cat([self.model.image_encoder(some) for some in self.images.split(8)])
        self.batch: CaptionBatch = {
            "image_tokens": tokens.half(),  # as the cache keeps them
            "image_id": ids,
            "input_ids": self.text.input_ids,
            "attention_mask": self.text.attention_mask,
        }

    @functools.cached_property
    def optimizers(self) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
        """The plain one and ours, which share their moments on a CPU: two sets of them would be another 2.7 GB."""
        plain = plain_optimizer(self.model)
        fused = torch.optim.AdamW(parameter_groups(self.model, "all"), lr=5e-5, weight_decay=0.01, fused=True)
        if self.device == "cpu":  # a fused one on a GPU counts its steps there
            fused.state = plain.state
        return plain, fused

    @functools.cached_property
    def drawn(self) -> dict[bool, StepDraws]:
        """Random numbers of plain steps, made once: they come from the CPU, which a GPU would wait for."""
        return {conditioned: self.draws(conditioned) for conditioned in (False, True)}

    def plain(self, conditioned: bool, precision: str = "fp32") -> None:
        """A plain step, with or without the pass of the earlier estimate."""
        optimizer = self.optimizers[0]
        with autocast(precision, self.device):
            loss = plain_loss(self.model, self.images, self.text, self.drawn[conditioned])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def ours(self, precision: str) -> None:
        """A step of ours, as Lightning takes it in "32-true" or "bf16-mixed"."""
        optimizer = self.optimizers[1]
        with autocast(precision, self.device):
            loss = self.model.losses(self.batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def steps(self) -> dict[str, Callable[[], None]]:
        """All that are timed."""
        return {
            WITHOUT: functools.partial(self.plain, False),
            WITH: functools.partial(self.plain, True),
            WITHOUT + HALF: functools.partial(self.plain, False, "bf16"),
            WITH + HALF: functools.partial(self.plain, True, "bf16"),
            **{kind: functools.partial(self.ours, kind) for kind in KINDS if kind != "plain"},
        }

    def draws(self, conditioned: bool) -> StepDraws:
        """The released code's random numbers, with its coin for the batch as given."""
        space, rows = self.model.latent_space, len(self.images)
        draws = released_draws(rows, space.length, space.width)
        draws = dataclasses.replace(draws, conditioned=torch.arange(rows if conditioned else 0))
        drawn = {name: value.to(self.device) for name, value in vars(draws).items() if value is not None}
        return StepDraws(**drawn)

    def apart(self) -> float:
        """Largest relative difference between the losses of both on two rows, in float32 and without dropout."""
        rows = min(2, len(self.images))
        few: Any = {name: value[:rows] for name, value in self.batch.items()}  # type: ignore[index]
        text = TokenBatch(few["input_ids"], few["attention_mask"])
        self.model.eval()
        differences = []
        for conditioned in (False, True):
            drawn, kept = self.draws(conditioned), torch.zeros(rows, dtype=torch.bool, device=self.device)
            draws = StepDraws(kept, drawn.times[:rows], drawn.noise[:rows], drawn.conditioned[:rows])
            with torch.no_grad():
                few["image_tokens"] = self.model.image_encoder(self.images[:rows])  # not rounded to the cache's fp16
                ours = self.model.losses(few, draws)["loss"]
                plain = plain_loss(self.model, self.images[:rows], text, draws)
            differences.append(float((ours - plain).abs() / plain))
        self.model.train()
        return max(differences)


def two_steps(kind: str, size: str, batch: int, layers: int | None = None, length: int = 24) -> Callable[[], None]:
    """What is run for its memory: in the second step the optimiser has its moments.

    Args:
        kind: one of ``KINDS``.
        size: a name in ``SIZES``.
        batch: pictures.
        layers: of the diffuser; all if None.
        length: positions of a caption.
    """
    sizes = SIZES[size]
    training = Training(dataclasses.replace(sizes, layers=layers or sizes.layers), batch, length)

    def run() -> None:
        for _ in range(2):
            if kind == "plain":
                training.plain(conditioned=True)
            else:
                training.ours(kind)

    return run


def write(
    given: Namespace, times: dict[str, Any] | None, memory: dict[str, dict[str, Any]], left: Sequence[Cell]
) -> None:
    """The page."""
    facts = ["fp32 and bf16-mixed", f"batch {given.batch}", "24 positions", f"{given.layers} layers"]
    facts += ["NFE 1.5 a caption on average", "seed 0", f"{given.size} sizes"]
    lines = [
        "# A training step",
        "",
        "`python -m benchmarks.training_step`: the released recipe, with image tokens from the cache (ours), against a",
        "loop that does what the released code does (`benchmarks/plain_training.py`): the ViT in every pass, once or,",
        "when its coin has it, twice a step; float32; AdamW parameter by parameter. Ours makes earlier estimates of",
        "half of the rows in every step and uses the fused AdamW. The weights are random, the same for both; nothing",
        "is loaded from a disk. The released code crops and flips pictures at random in every step; a cache holds",
        "a few views at most. Without a cache the ViT is in our step too.",
        "",
        conditions(*facts, lines=[*memory.values(), *([times] if times else [])]),
    ]
    if times:
        lines += [
            f"- medians of {given.rounds} rounds after one to warm up, all in turn",
            f"- losses apart, float32, no dropout, with and without earlier estimates: {times['apart']:.0e} at most",
            "",
            *seconds_told(times["seconds"], given.batch),
        ]
    if memory:
        rows = [
            [KINDS[kind], f"{line['built']:.2f}", f"{line['peak']:.2f}", f"{line['peak'] - line['built']:.2f}"]
            for kind, line in memory.items()
        ]
        told = "Resident memory of two steps in GiB, each in a process of its own (plain: with the earlier estimate):"
        lines += ["", told, "", *table(["", "model and libraries", "peak", "added by training"], rows)]
    publish(given.page, [*lines, *left_out([" ".join(map(str, cell.values())) for cell in left])])


def seconds_told(seconds: dict[str, float], batch: int) -> list[str]:
    """The table of times, and whether the target is reached."""
    plain, half = ((seconds[WITHOUT + how] + seconds[WITH + how]) / 2 for how in ("", HALF))
    steps = {
        "plain, without the earlier estimate": seconds[WITHOUT],
        "plain, with it": seconds[WITH],
        "plain, mean of the two: the coin is fair": plain,
        "plain under bf16 autocast, mean of the two": half,
        **{told: seconds[kind] for kind, told in KINDS.items() if kind != "plain"},
    }
    rows = [[told, f"{step:.2f}", f"{batch / step:.2f}", f"{plain / step:.2f}"] for told, step in steps.items()]
    best = plain / seconds["bf16"]
    return [
        *table(["", "seconds a step", "captions a second", "times as fast as the mean"], rows),
        "",
        f"Target: {TARGET:g} times as fast; ours in bf16 against the plain loop: {best:.2f}, "
        f"{'reached' if best >= TARGET else 'missed'}. In equal precision it is {plain / seconds['fp32']:.2f} in fp32 "
        f"and {half / seconds['bf16']:.2f} in bf16.",
    ]


if __name__ == "__main__":
    main()
