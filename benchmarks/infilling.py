"""``python -m benchmarks.infilling RUN…``: words of real captions blanked out and filled in again.

For the first validation pictures, words of the first reference become blanks: one word, three words apart from each
other, the first three, the last three, or a free blank in place of two words in the middle. Measured is how often a
blank says the very word that stood there, and CIDEr-D of the filled caption against the picture's *other* references;
beside it that of the caption with other words in the blanks (the same model's filling for another picture, so that what
the given words alone are worth shows) and of the untouched reference. Writes ``benchmarks/results/infilling.md``.
"""

from __future__ import annotations

import argparse
import datetime
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.pages import commit
from benchmarks.timing import machine, precision
from benchmarks.trained import Pictures, TrainedModel, batches
from ladic.clamping import ClampTo
from ladic.components import BackAndRefine, RenoiseSampler, Sampler
from ladic.infill import fill
from ladic.precision import fast_autocast
from ladic.rerank import ReconstructionSelector
from ladic.template import Template

RESULTS = Path(__file__).parent / "results"
TASKS = ("one word", "three words", "first three", "last three", "free blank")
CLAMPS: tuple[ClampTo, ...] = ("masked", "reencoded", "late")


def blanked(words: list[str], task: str, rng: random.Random) -> tuple[str, list[str]]:
    """A template of a caption's words, and what its blanks stood for."""
    count = len(words)
    if task == "one word":
        places = [rng.randrange(count)]
    elif task == "three words":
        places = sorted(rng.sample(range(0, count, 2), min(3, (count + 1) // 2)))
    elif task == "first three":
        places = list(range(3))
    elif task == "last three":
        places = list(range(count - 3, count))
    else:
        start = rng.randrange(1, count - 2)
        return " ".join([*words[:start], "___", *words[start + 2 :]]), [" ".join(words[start : start + 2])]
    text = ["___{1}" if place in places else word for place, word in enumerate(words)]
    return " ".join(text), [words[place] for place in places]


def tasks(pictures: Pictures, model: TrainedModel) -> tuple[list[int], dict[str, list[tuple[str, list[str]]]]]:
    """Pictures whose first caption has six words or more, each of them one token; and each task's templates."""
    tokenizer = model.captioner.latent_space.tokenizer
    room = model.captioner.latent_space.length - 4
    rows, templates = [], {task: [] for task in TASKS}  # type: ignore[var-annotated]
    for row, captions in enumerate(pictures.captions):
        words = captions[0].lower().rstrip(" .").split()
        pieces = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
        if (
            len(words) < 6
            or len(words) > room
            or not all(len(p) == 1 and p[0] != tokenizer.unk_token_id for p in pieces)
        ):
            continue
        rows.append(row)
        rng = random.Random(row)
        for task in TASKS:
            templates[task].append(blanked(words, task, rng))
    return rows, templates


@torch.no_grad()
def filled(
    model: TrainedModel, pictures: Pictures, templates: list[str], clamp: ClampTo, sampler: Sampler, batch: int
) -> tuple[list[str], list[tuple[str, ...]], int]:
    """Captions, fillings and NFE; of several lengths the model's own reconstruction chooses."""
    captioner, captions, fills, nfe = model.captioner, [], [], 0
    for rows in batches(range(len(pictures)), batch):
        part = pictures.some(rows)
        with fast_autocast():
            out = fill(
                part.tokens,
                captioner.null_context(part.tokens),
                part.ids,
                [Template.parse(templates[row]) for row in rows],
                clamp=clamp,
                **{**captioner.parts(), "sampler": sampler},
            )
        candidates = [[filling.caption for filling in fillings] for fillings in out.candidates]
        if any(len(each) > 1 for each in candidates):
            chosen, _ = model.choose(
                part, candidates, ReconstructionSelector(weight=2.0, times=(0.5, 0.65, 0.8), draws=1)
            )
        else:
            chosen = [each[0] for each in candidates]
        for place, caption in enumerate(chosen):
            captions.append(caption)
            fills.append(out.candidates[place][candidates[place].index(caption)].fills)
        nfe = out.nfe
    return captions, fills, nfe


def row_of(
    model: TrainedModel, pictures: Pictures, templates: list[tuple[str, list[str]]], clamp: ClampTo, sampler: Sampler,
    batch: int,
) -> dict[str, Any]:  # fmt: skip
    """Numbers of one task with one variant."""
    started = time.perf_counter()
    captions, fills, nfe = filled(model, pictures, [text for text, _ in templates], clamp, sampler, batch)
    others = [references[1:] for references in pictures.references]
    exact = [
        said == meant for said_all, (_, truth) in zip(fills, templates, strict=True)
        for said, meant in zip(said_all, truth, strict=True)
    ]  # fmt: skip
    # The fillings of the next picture in this one's blanks; where their number differs, as many as there are.
    shifted = [*fills[1:], fills[0]]
    swapped = [
        Template.parse(text).filled([other[i % len(other)] for i in range(len(truth))])
        for (text, truth), other in zip(templates, shifted, strict=True)
    ]
    truth = [references[0] for references in pictures.references]
    return {
        "exact": float(np.mean(exact)),
        "blanks": len(exact),
        "cider": float(pictures.cider(captions, others).mean()),
        "swapped": float(pictures.cider(swapped, others).mean()),
        "truth": float(pictures.cider(truth, others).mean()),
        "nfe": nfe,
        "seconds": time.perf_counter() - started,
    }


def main() -> None:
    """Measures, and writes the page after every row: a stopped run leaves what it has."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--pictures", type=int, default=150)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    lines = head(options)
    for run in options.runs:
        model = TrainedModel(run)
        pictures = model.pictures(options.pictures)
        rows, templates = tasks(pictures, model)
        pictures = pictures.some(rows)
        lines += title(run, len(rows))
        variants: list[tuple[str, Sampler, ClampTo]] = [
            (f"Renoise, {options.steps}", RenoiseSampler(options.steps), clamp) for clamp in CLAMPS
        ]
        variants.append(("Back&Refine of it", BackAndRefine(RenoiseSampler(options.steps)), "late"))
        for task in TASKS:
            for name, sampler, clamp in variants:
                found = row_of(model, pictures, templates[task], clamp, sampler, options.batch)
                lines.append(
                    f"| {task} | {name} | {clamp} | {100 * found['exact']:.1f} % of {found['blanks']} "
                    f"| {found['cider']:.3f} | {found['swapped']:.3f} | {found['truth']:.3f} | {found['nfe']} |"
                )
                print(f"{lines[-1]}  {found['seconds']:.0f} s", flush=True)
                write(lines)
        lines.append("")
    print(f"wrote {RESULTS / 'infilling.md'}")


def head(options: argparse.Namespace) -> list[str]:
    """What the page begins with."""
    return [
        "# Filling in blanks",
        "",
        f"Made by `python -m benchmarks.infilling {' '.join(map(str, options.runs))} "
        f"--pictures {options.pictures} --steps {options.steps}`.",
        "",
        f"- {machine()}; {precision()}; commit {commit()}; {datetime.date.today().isoformat()}; noise seed 0",
        "- words of each picture's first reference are blanked; CIDEr-D is against its other references; the",
        "  column beside is of the same caption with what was filled in for the next picture",
        "",
    ]


def title(run: Path, captions: int) -> list[str]:
    """What a run's table begins with."""
    return [
        f"## {run.name}: {captions} captions",
        "",
        "| blanks | sampler | given words at | the very word | CIDEr-D | next picture's words | reference | NFE |",
        "|---|---|---|---|---|---|---|---|",
    ]


def write(lines: list[str]) -> None:
    (RESULTS / "infilling.md").write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
