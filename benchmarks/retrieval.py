"""``python -m benchmarks.retrieval``: how far captions of the training pictures get, without a captioner.

For each validation picture the training caption with the highest CIDEr-D that the picture lets expect
(``ladic.expected_ngrams``), and, to compare, a caption of the picture whose features are nearest. What a captioner
gains over it is what it says that nobody said before. Needs the cached features of ``configs/study/plus.yaml``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.pages import RESULTS, conditions, publish, table
from ladic.cli.lightning_cli import model_part, parse, spec_of
from ladic.cli.token_reader import TokenReader
from ladic.components import ImageEncoder
from ladic.datamodules import CaptionDataModule
from ladic.expected_ngrams import ExpectedNgrams
from ladic.metrics.scoring import score_captions
from ladic.spec import build

METRICS = ("cider", "bleu", "rouge", "meteor")
SHOWN = ("CIDEr-D", "BLEU-4", "ROUGE-L", "METEOR")
LEAST, RIDGE, LONGEST = 20, 0.3, 4
PICTURES = 100
"""Whose scores of all captions are in memory at a time."""


def main(argv: list[str] | None = None) -> None:
    """Measures and writes ``results/retrieval.md``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retrieval", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-c", "--config", default="configs/study/plus.yaml", help="encoder and pictures")
    parser.add_argument("--features", default="runs/flickr8k/features", help="of ladic cache-features")
    parser.add_argument("--page", type=Path, default=RESULTS / "retrieval.md")
    given = parser.parse_args(argv)
    config = parse(["-c", given.config, f"--data.features={given.features}"])
    encoder = build(model_part(config, "image_encoder"), ImageEncoder)
    datamodule = build(spec_of(config.data), CaptionDataModule)
    train, captions = TokenReader(datamodule, encoder, "train").pooled(64)
    pictures, references = TokenReader(datamodule, encoder, "val").pooled(64)
    stored = [text for texts in captions for text in texts]
    rows = [("nearest picture, its first caption", nearest(train, captions, pictures), "")]
    for longest in range(1, LONGEST + 1):
        model = ExpectedNgrams.fit(train, captions, LEAST, RIDGE, longest)
        known = Stored(model, stored)
        begun = time.perf_counter()
        said = known.best(pictures)
        words = f"highest expected CIDEr-D, up to {longest} word{'s' * (longest > 1)} in a row"
        rows.append((words, said, f"{1000 * (time.perf_counter() - begun) / len(pictures):.1f}"))
    shown = []
    for name, said, milliseconds in rows:
        scores = score_captions(dict(enumerate(said)), dict(enumerate(references)), METRICS).corpus
        cells = ["" if (value := scores.get(metric)) is None else f"{value:.4f}" for metric in SHOWN]
        shown.append([name, *cells, milliseconds, str(len(set(said)))])
    publish(
        given.page,
        [
            "# Captions that others wrote",
            "",
            "`python -m benchmarks.retrieval`: of the training captions the one that suits a picture best by a ridge",
            "regression on its mean image token: the selector of `configs/study/plus.yaml` with all captions for",
            "candidates. Nothing is generated.",
            "",
            conditions(f"{len(stored)} captions of {len(train)} pictures, {len(pictures)} validation pictures"),
            f"- n-grams of at least {LEAST} pictures, ridge {RIDGE}; of the search alone the time",
            "",
            *table(["chosen by", *SHOWN, "ms a picture", "different captions"], shown),
        ],
    )


def nearest(train: Tensor, captions: Sequence[Sequence[str]], pictures: Tensor) -> list[str]:
    """The first caption of the picture with the most alike features, each of them centred and scaled.

    Args:
        train: (n, C) of the training pictures, whose ``captions`` these are.
        pictures: (V, C).
    """
    mean, deviation = train.mean(0), train.std(0) + 1e-3
    stored, asked = (F.normalize((each - mean) / deviation) for each in (train, pictures))
    return [captions[row][0] for row in (asked @ stored.T).argmax(1).tolist()]


class Stored:
    """Captions as a matrix, to score all of them for a picture at once.

    Args:
        model: of expected n-grams.
        captions: (S) as tokens with spaces between them.
    """

    def __init__(self, model: ExpectedNgrams, captions: Sequence[str]) -> None:
        self.model, self.captions = model, captions
        vectors = [model.vector(text) for text in captions]
        places = torch.tensor([[row, number] for row, vector in enumerate(vectors) for number in vector]).T
        values = torch.tensor([value for vector in vectors for value in vector.values()])
        self.table = torch.sparse_coo_tensor(places, values, (len(captions), len(model.ngrams))).to_sparse_csr()
        self.shares = torch.tensor([model.length_share(text) for text in captions])

    def best(self, pictures: Tensor) -> list[str]:
        """The caption with the highest ``ExpectedNgrams.score`` for each of the pooled features (V, C)."""
        found: list[str] = []
        for part in pictures.split(PICTURES):
            alike = (self.table @ self.model.expected(part).T).T
            scores = torch.where(alike > 0, alike * self.shares, alike)
            found += [self.captions[row] for row in scores.argmax(1).tolist()]
        return found


if __name__ == "__main__":
    main()
