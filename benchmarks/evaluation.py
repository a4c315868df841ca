"""How long the scores of 5,000 images with 5 references take on one core, and how much longer pycocoevalcap takes.

    nice python -m benchmarks.evaluation [--json FILE]

Captions are tokenised and scored by BLEU, ROUGE-L and CIDEr-D, from raw text to per-image scores, in a fresh process
that is bound to one core. Rounds of ours and of pycocoevalcap's Python scorers alternate in the same run;
its tokenizer is timed apart, because it is a Java process and isn't there without Java. The captions are sentences
drawn from a grammar with Zipf-distributed words, so nothing has to be downloaded; ``--references`` and ``--results``
take real ones in COCO's formats.

Budget: ours at most 2 s, and pycocoevalcap at least 3 times as long. pycocoevalcap is an option: without it (or in
another folder: --pycocoevalcap) the ratio is null.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ladic.metrics.functional import ptb_tokenizer
from ladic.metrics.functional.jars import Unavailable
from ladic.metrics.functional.java_tokenizer import java_tokenize_all
from ladic.metrics.scoring import score_captions

LIMIT_SECONDS = 2.0
LIMIT_RATIO = 3.0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluation", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", help="captions to score, COCO results")
    parser.add_argument("--references", help="their references: rows of image and caption list")
    parser.add_argument("--pycocoevalcap", help="folder of a pycocoevalcap that can't be imported from here")
    parser.add_argument("--json", help="write the figures here as well")
    args = parser.parse_args(argv)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    if args.results and args.references:
        captions, references = read(args.results, args.references)
    else:
        captions, references = make_captions(args.images)
    theirs = python_scorers(args.pycocoevalcap)
    ours_wall, ours_cpu, their_wall, their_cpu, agreement = [], [], [], [], None
    for _ in range(args.rounds):
        ptb_tokenizer._alone.cache_clear()  # each round starts with words never seen
        scores, wall, cpu = timed(lambda: score_captions(captions, references, ["bleu", "rouge", "cider"]))
        ours_wall.append(wall)
        ours_cpu.append(cpu)
        if theirs is None:
            continue
        tokens = {i: [ptb_tokenizer.ptb_tokenize(text)] for i, text in captions.items()}
        wanted = {i: [ptb_tokenizer.ptb_tokenize(text) for text in texts] for i, texts in references.items()}
        values, wall, cpu = timed(lambda: [scorer(wanted, tokens) for scorer in theirs])  # noqa: B023
        their_wall.append(wall)
        their_cpu.append(cpu)
        names = ["BLEU-4", "ROUGE-L", "CIDEr-D"]
        agreement = max(abs(scores.corpus[n] - v) for n, v in zip(names, values, strict=True))

    java = java_seconds([*captions.values(), *(t for texts in references.values() for t in texts)], args.pycocoevalcap)
    figures: dict[str, Any] = {
        "images": len(captions),
        "references": sum(map(len, references.values())),
        "ours_seconds": round(statistics.median(ours_wall), 3),
        "ours_cpu_seconds": round(statistics.median(ours_cpu), 3),
        "pycocoevalcap_scorers_seconds": round(statistics.median(their_wall), 3) if their_wall else None,
        "pycocoevalcap_scorers_cpu_seconds": round(statistics.median(their_cpu), 3) if their_cpu else None,
        "pycocoevalcap_java_tokenizer_seconds": java,
        "ratio_without_their_tokenizer": round(statistics.median(their_cpu) / statistics.median(ours_cpu), 2)
        if their_cpu
        else None,
        "largest_difference_of_corpus_scores": agreement,
        "rounds": args.rounds,
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": f"{platform.machine()}, one of {os.cpu_count()} cores",
    }
    if java is not None and their_wall:
        total = statistics.median(their_wall) + java
        figures["ratio_with_their_tokenizer"] = round(total / statistics.median(ours_wall), 2)
    print(json.dumps(figures, indent=2))
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=2) + "\n")
    slow = figures["ours_cpu_seconds"] > LIMIT_SECONDS
    ratio = figures["ratio_without_their_tokenizer"]
    close = ratio is not None and ratio < LIMIT_RATIO
    print(f"at most {LIMIT_SECONDS} s of one core: {'NO' if slow else 'yes'}", file=sys.stderr)
    print(
        f"at least {LIMIT_RATIO} times faster: {'not measured' if ratio is None else 'NO' if close else 'yes'}",
        file=sys.stderr,
    )
    return int(slow or close)


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What it returned, seconds on the clock and seconds of this process's processor time."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def make_captions(images: int, references: int = 5, seed: int = 0) -> tuple[dict[int, str], dict[int, list[str]]]:
    """Captions with COCO's lengths (10.5 words) and a vocabulary of 9,000 words in Zipf's proportions."""
    draw = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 10))) for _ in range(9000)]
    weights = [1 / (rank + 2.7) for rank in range(len(words))]
    ends = [".", ".", ".", "", "", " ", "!", ", too."]

    def caption(topic: list[str]) -> str:
        drawn = draw.choices(words, weights, k=max(5, round(draw.gauss(8, 2)))) + draw.choices(topic, k=3)
        draw.shuffle(drawn)
        if draw.random() < 0.03:
            drawn[0] += draw.choice(["'s", "-" + drawn[1], "n't", ",", " (left)"])
        return " ".join(drawn).capitalize() + draw.choice(ends)

    captions, written = {}, {}
    for image in range(images):
        topic = draw.choices(words, weights, k=6)
        captions[image] = caption(topic)
        written[image] = [caption(topic) for _ in range(references)]
    return captions, written


def read(results: str, references: str) -> tuple[dict[int, str], dict[int, list[str]]]:
    captions = {row["image_id"]: row["caption"] for row in json.loads(Path(results).read_bytes())}
    rows = json.loads(Path(references).read_bytes())
    return captions, {int(Path(row["image"]).stem.rpartition("_")[2]): row["caption"] for row in rows}


def python_scorers(folder: str | None) -> list[Callable[[Any, Any], float]] | None:
    """pycocoevalcap's BLEU-4, ROUGE-L and CIDEr-D as functions of tokenised references and captions."""
    if folder:
        sys.path.append(str(Path(folder).resolve().parent))
    try:
        bleu = importlib.import_module("pycocoevalcap.bleu.bleu").Bleu(4)
        rouge = importlib.import_module("pycocoevalcap.rouge.rouge").Rouge()
        cider = importlib.import_module("pycocoevalcap.cider.cider").Cider()
    except ImportError:
        return None

    def quiet_bleu(references: Any, captions: Any) -> float:
        with contextlib.redirect_stdout(io.StringIO()):
            return bleu.compute_score(references, captions)[0][3]

    return [
        quiet_bleu,
        lambda r, c: float(rouge.compute_score(r, c)[0]),
        lambda r, c: float(cider.compute_score(r, c)[0]),
    ]


def java_seconds(texts: list[str], folder: str | None) -> float | None:
    try:
        start = time.perf_counter()
        java_tokenize_all(texts, package=folder)
        return round(time.perf_counter() - start, 3)
    except Unavailable:
        return None


if __name__ == "__main__":
    raise SystemExit(main())
