"""``ladic report``: one HTML page about a run, from the files it wrote."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

from ladic.cli.parser import LineParser
from ladic.errors import UsageError

TRUTH = ("wholly_true", "objects_named")
ON_CARDS = ("CIDEr-D", "BLEU-4", "ROUGE-L", "METEOR", "SPICE", "CLIPScore")
"""The per-image scores that stand below a picture."""
_SEED = 0  # the random pictures of a run are the same each time


def main(argv: list[str]) -> None:
    """Writes ``report.html`` into the run's folder."""
    parser = LineParser("ladic report", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("-c", "--config", required=True, help="its configuration, for pictures and references")
    parser.add_argument("--split", choices=["val", "test"], default="test", help="(default %(default)s)")
    parser.add_argument(
        "--images",
        type=int,
        default=12,
        help="pictures to show: a third each of the best, the worst and random ones (default %(default)s)",
    )
    parser.add_argument("--output", type=Path, help="instead of RUN/report.html")
    parser.add_argument("overrides", nargs="*", help="flags for the configuration, after --")
    options = parser.parse_args(argv)
    if options.images < 0:
        raise UsageError(f"--images {options.images}: need 0 or more")
    results, scores = (read(options.run, f"{name}_{options.split}.json") for name in ("results", "scores"))
    name = f"per_image_{options.split}.json"  # a run of an earlier version has none
    scored = read(options.run, name) if (options.run / name).is_file() else []
    per_image = {str(row["image_id"]): row["scores"] for row in scored}

    from ladic.cli.lightning_cli import parse, spec_of
    from ladic.datamodules import CaptionDataModule
    from ladic.metrics.functional.ptb_tokenizer import ptb_tokenize_all
    from ladic.plots import length_figure, read_curves, training_figure
    from ladic.report import page
    from ladic.spec import build

    config = parse(["-c", options.config, *options.overrides])
    datamodule = build(spec_of(config.data), CaptionDataModule)
    captions = {str(entry["image_id"]): entry["caption"] for entry in results}
    source = datamodule.split(options.split)
    places = {str(source.image_id(index)): index for index in range(len(source))}
    known = [image_id for image_id in captions if image_id in places]
    if not known:
        raise UsageError(
            f"'{options.run}': none of its {len(captions)} {options.split} captions is for a picture of "
            f"'{options.config}'; give the configuration that the run was made with"
        )
    sections = [
        (heading, [example(datamodule, options.split, places[i], captions[i], per_image.get(i, {})) for i in ids])
        for heading, ids in choose(known, per_image, options.images)
    ]
    curves = read_curves(options.run)
    last = {name: curves[f"{options.split}/{name}"][-1][1] for name in TRUTH if f"{options.split}/{name}" in curves}
    said, written = (
        [len(text.split()) for text in ptb_tokenize_all(texts)]
        for texts in ([captions[i] for i in known], [text for i in known for text in source.captions(places[i])])
    )
    figures = [
        ("Training", training_figure(curves)),
        ("Words in a caption", length_figure(said, written)),
    ]
    output = options.output or options.run / "report.html"
    output.write_text(
        page(f"LaDiC: {options.run}", facts(scores, options.split), rows(scores, last), sections, figures),
        encoding="utf-8",
    )
    for heading, examples in sections:
        print_table(heading, examples)
    for name, value in last.items():
        print(f"{options.split} {name.replace('_', ' ')}: {100 * value:.1f} %")
    print(f"wrote {output.resolve()}")


def choose(ids: list[str], scores: dict[str, dict[str, float]], limit: int) -> list[tuple[str, list[str]]]:
    """Headings and image ids: a third of ``limit`` each for the best, the worst and random ones; none comes twice.

    Without scores all are random.

    Example:
        >>> scores = {i: {"CIDEr-D": value} for i, value in zip("abcd", [0.1, 0.9, 0.5, 0.2], strict=True)}
        >>> choose(list("abcd"), scores, 3)
        [('Best by CIDEr-D', ['b']), ('Worst by CIDEr-D', ['a']), ('Random', ['d'])]
    """
    scored = sorted(
        (i for i in ids if "CIDEr-D" in scores.get(i, {})), key=lambda i: scores[i]["CIDEr-D"], reverse=True
    )
    limit = min(limit, len(ids))
    share = min(limit // 3, len(scored) // 2)
    best, worst = scored[:share], scored[::-1][:share]
    others = [i for i in ids if i not in {*best, *worst}]
    drawn = set(random.Random(_SEED).sample(others, min(limit - 2 * share, len(others))))
    chosen = [("Best by CIDEr-D", best), ("Worst by CIDEr-D", worst), ("Random", [i for i in others if i in drawn])]
    return [(heading, part) for heading, part in chosen if part]


def example(datamodule: Any, split: str, index: int, caption: str, scores: dict[str, float]) -> Any:
    """A picture with its caption, the claims checked where the data can."""
    from ladic.cli.score import shown
    from ladic.report import Example

    source = datamodule.split(split)
    image_id = source.image_id(index)
    verdict = datamodule.truth(split, image_id, caption) if hasattr(datamodule, "truth") else None
    claims = [] if verdict is None else [(claim.text, claim.holds) for claim in verdict.claims]
    if verdict is not None and verdict.unparsed:
        claims.append((f"not understood: {' '.join(verdict.unparsed)}", False))
    missing = [] if verdict is None else list(verdict.missing)
    numbers = [(name, shown(name, scores[name])) for name in ON_CARDS if name in scores]
    return Example(str(image_id), source.image(index), caption, source.captions(index), claims, missing, numbers)


def facts(scores: dict[str, Any], split: str) -> dict[str, str]:
    """Lines about the run; a file of an earlier version has fewer."""
    found = {"split": f"{split}, {scores['images']:,} images", "training steps": f"{scores['step']:,}"}
    checkpoint = scores.get("checkpoint")
    if checkpoint:
        found["checkpoint"] = f"{checkpoint['path']} (sha256 {str(checkpoint['sha256'])[:12]})"
    sampler, config = scores.get("sampler"), scores.get("config") or {}
    if "captioner" in config and not sampler:
        settings = ", ".join(
            f"{name}={value}"
            for name, value in config["settings"].items()
            if value is not None and not isinstance(value, dict) and name != "tokenizer"
        )
        found["captioner"] = f"{config['captioner'].rpartition('.')[2]}({settings})"
    if sampler:
        settings = ", ".join(f"{name}={value}" for name, value in sampler["init_args"].items())
        found["sampler"] = f"{sampler['class_path'].rpartition('.')[2]}({settings})"
    if scores.get("guidance"):
        found["guidance"] = ", ".join(f"{name} {value}" for name, value in scores["guidance"].items())
    if scores.get("nfe") is not None:
        several = scores.get("num_candidates") or 1
        found["network evaluations"] = f"{scores['nfe']:g}" + (f" for each of {several} samples" if several > 1 else "")
    if scores.get("seeds"):
        found["seeds"] = ", ".join(f"{name} {value}" for name, value in scores["seeds"].items())
    if scores.get("tokenizer"):
        found["metrics' tokenizer"] = scores["tokenizer"]
    spent = (
        f"{timedelta(seconds=round(scores['seconds']))}" if scores["seconds"] >= 10 else f"{scores['seconds']:.1f} s"
    )
    if "seconds_per_image" in scores:
        spent += f", {1000 * scores['seconds_per_image']:.1f} ms an image"
    found["time for captioning"] = spent
    if scores.get("versions"):
        found["versions"] = ", ".join(f"{name} {value}" for name, value in scores["versions"].items())
    return found


def rows(scores: dict[str, Any], truth: dict[str, float]) -> list[Any]:
    """Lines of the table of scores, the control beside its score."""
    from ladic.cli.score import shown
    from ladic.report import ScoreRow

    corpus, reasons = scores["scores"], scores.get("unavailable", {})
    table = [
        ScoreRow(
            name,
            shown(name, value),
            shown(name, corpus[f"{name}_shuffled"]) if f"{name}_shuffled" in corpus else "",
            reasons.get(name, "unknown reason") if value is None else "",
        )
        for name, value in corpus.items()
        if not name.endswith("_shuffled")
    ]
    return table + [ScoreRow(name, shown(name, value)) for name, value in truth.items()]


def print_table(heading: str, examples: Iterable[Any]) -> None:
    """The captions in the terminal, with a mark where their truth is known."""
    print(f"{heading}:")
    for each in examples:
        mark = "" if not each.claims else ("✓ " if all(holds for _, holds in each.claims) else "✗ ")
        print(f"  {mark}{each.image_id}: {each.caption}")


def read(run: Path, name: str) -> Any:
    """A JSON file of a run.

    Raises:
        UsageError: if it isn't there or is broken.
    """
    try:
        return json.loads((run / name).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"'{run}': no {name} in it; run `ladic test` (or validate) with this folder first") from error
    except json.JSONDecodeError as error:
        raise UsageError(f"'{run / name}': not JSON ({error}); run `ladic test` again") from error
