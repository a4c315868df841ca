"""``python -m benchmarks.choosing``: what choosing among candidates is worth, by whom, and among how many.

Candidates of a trained row of the study (``ladic sweep configs/study/flickr8k_study.yaml --only plus``) for the first
validation pictures: samples, and of each its readings. The same pictures served to decide on the selector, so that the
page also has the scores of the study's rows on all the others.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.pages import RESULTS, conditions, count, publish, table
from ladic.captioner import LatentDiffusionCaptioner
from ladic.cli.lightning_cli import parse, spec_of
from ladic.cli.token_reader import TokenReader
from ladic.datamodules import CaptionDataModule
from ladic.expected_ngrams import ExpectedNgrams
from ladic.metrics.functional.cider import DocumentFrequencies, cider_d
from ladic.metrics.functional.ngrams import FloatArray
from ladic.metrics.functional.ptb_tokenizer import ptb_tokenize_all
from ladic.precision import fast_autocast
from ladic.spec import build

SAMPLES, READINGS = (1, 5, 10, 20), (1, 2, 3, 6)
LEAST, RIDGE, LONGEST = 20, 0.3, 4
ROWS = ("plus", "autoregressive-words", "autoregressive", "autoregressive-greedy")
BATCH = 32


def main(argv: list[str] | None = None) -> None:
    """Measures and writes ``results/choosing.md``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.choosing", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-c", "--config", default="configs/study/plus.yaml", help="the pictures")
    parser.add_argument("--features", default="runs/flickr8k/features", help="of ladic cache-features")
    parser.add_argument("--study", type=Path, default=Path("runs/study"), help="of ladic sweep")
    parser.add_argument("--seed", type=int, default=0, help="of the row")
    parser.add_argument("--pictures", type=count, default=200, help="the first so many")
    parser.add_argument("--page", type=Path, default=RESULTS / "choosing.md")
    given = parser.parse_args(argv)
    run = given.study / "plus" / f"seed-{given.seed}"
    if not run.is_dir():
        parser.error(f"--study {given.study}: no folder {run}; first: ladic sweep configs/study/flickr8k_study.yaml")
    captioner = LatentDiffusionCaptioner.load_from_checkpoint(f"best:{run}").eval()
    if captioner.rounding is None:
        parser.error(f"--study {given.study}: {run} has no rounding, so that a sample has no readings")
    captioner.rounding.readings = max(READINGS)
    config = parse(["-c", given.config, f"--data.features={given.features}"])
    datamodule = build(spec_of(config.data), CaptionDataModule)
    train, captions = TokenReader(datamodule, captioner.image_encoder, "train").pooled(BATCH)
    reader = TokenReader(datamodule, captioner.image_encoder, "val")
    pictures, references = reader.pooled(BATCH)
    number = min(given.pictures, len(reader))

    said = drawn(captioner, reader, number)
    true = against(said, references, DocumentFrequencies.from_references(references))
    trained = DocumentFrequencies.from_references(captions)
    agree = np.stack([agreement(row[:, 0].tolist(), trained) for row in said])
    models = [ExpectedNgrams.fit(train, captions, LEAST, RIDGE, longest) for longest in range(1, LONGEST + 1)]
    scores = [expected(model, pictures[:number], said) for model in models]

    most = max(SAMPLES)
    rows = [
        ("nobody: the mean", float(true[:, :, 0].mean())),
        ("minimum Bayes risk, CIDEr-D", chosen(agree, true[:, :, 0])),
        *((f"expected CIDEr-D, n-grams of up to {n} words", chosen(each[:, :, 0], true[:, :, 0]))
          for n, each in enumerate(scores, 1)),
        ("who knows the references", float(true[:, :, 0].max(1).mean())),
    ]  # fmt: skip
    many = [
        [str(samples), *(f"{chosen(scores[1][:, :samples, :r], true[:, :samples, :r]):.4f}" for r in READINGS)]
        for samples in SAMPLES
    ]
    ids = [str(reader.source.image_id(row)) for row in range(number)]
    publish(
        given.page,
        [
            "# Choosing among candidates",
            "",
            "`python -m benchmarks.choosing` after the study's sweep: CIDEr-D on the first validation pictures, the",
            f"weights of `{run}`.",
            "",
            conditions(f"{number} pictures; {most} samples of up to {max(READINGS)} readings"),
            f"- n-grams of at least {LEAST} pictures, ridge {RIDGE}",
            "",
            f"One reading of each of {most} samples, chosen by",
            "",
            *table(["", "CIDEr-D"], [[name, f"{value:.4f}"] for name, value in rows]),
            "",
            "By the CIDEr-D that words and pairs let expect; samples down, readings of each across:",
            "",
            *table(["samples", *map(str, READINGS)], many),
            *others(given.study, ids),
        ],
    )


@torch.no_grad()
def drawn(captioner: LatentDiffusionCaptioner, reader: TokenReader, number: int) -> np.ndarray:
    """Tokenised candidates of the first pictures, (I, samples, readings)."""
    found: list[list[str]] = []
    for start in range(0, number, BATCH):
        rows = list(range(start, min(start + BATCH, number)))
        ids = [reader.source.image_id(row) for row in rows]
        tokens = reader.tokens(rows)
        with fast_autocast():
            out = captioner.generate({"image_id": ids, "image_tokens": tokens}, max(SAMPLES))
        found += [ptb_tokenize_all(each) for each in out.candidates]
        print(f"  {len(found)}/{number} pictures", flush=True)
    return np.array(found, dtype=object).reshape(number, max(SAMPLES), max(READINGS))


def against(said: np.ndarray, references: Sequence[Sequence[str]], frequencies: DocumentFrequencies) -> FloatArray:
    """CIDEr-D of every candidate, like ``said``."""
    each = said[0].size
    repeated = [references[row] for row in range(len(said)) for _ in range(each)]
    return cider_d(said.ravel().tolist(), repeated, frequencies).per_image.reshape(said.shape)


def agreement(captions: list[str], frequencies: DocumentFrequencies) -> FloatArray:
    """Of each caption the mean CIDEr-D with the others."""
    others = [captions[:place] + captions[place + 1 :] for place in range(len(captions))]
    return cider_d(captions, others, frequencies).per_image


def expected(model: ExpectedNgrams, pictures: Tensor, said: np.ndarray) -> FloatArray:
    """The model's score of every candidate, like ``said``, for pooled features (I, C)."""
    rows = zip(model.expected(pictures).tolist(), said.reshape(len(said), -1), strict=True)
    return np.array([[model.score(row, text) for text in texts] for row, texts in rows]).reshape(said.shape)


def chosen(scores: FloatArray, true: FloatArray) -> float:
    """Mean of what is true of the best of each picture, both (I, ...)."""
    best = scores.reshape(len(scores), -1).argmax(1)
    return float(true.reshape(len(true), -1)[np.arange(len(true)), best].mean())


def others(study: Path, ids: Sequence[str]) -> list[str]:
    """The study's rows on the pictures that are not among these, as far as they are finished."""
    shown = []
    for name in ROWS:
        means = []
        for file in sorted(study.glob(f"{name}/seed-*/per_image_test.json")):
            entries = json.loads(file.read_text(encoding="utf-8"))
            means.append(np.mean([e["scores"]["CIDEr-D"] for e in entries if str(e["image_id"]) not in set(ids)]))
        if means:
            shown.append([name, str(len(means)), f"{np.mean(means):.4f}", ", ".join(f"{mean:.4f}" for mean in means)])
    if not shown:
        return []
    return ["", "On all other validation pictures:", "", *table(["row", "n", "CIDEr-D, mean", "each seed"], shown)]


if __name__ == "__main__":
    main()
