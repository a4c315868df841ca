"""``python -m benchmarks.flickr8k RUN``: the page of results of a run of ``configs/flickr8k.yaml``.

Reads what the run wrote (curves, scores, captions) and writes ``benchmarks/results/flickr8k.md`` and its figure. The
pictures themselves may not be published, so the page names their files; ``ladic report`` shows them.
"""

from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path

from benchmarks.pages import commit, sampling
from benchmarks.timing import machine
from ladic.cli.lightning_cli import parse, spec_of
from ladic.datamodules import CaptionDataModule
from ladic.plots import read_curves, training_figure
from ladic.spec import build

RESULTS = Path(__file__).parent / "results"
CONFIG = "configs/flickr8k.yaml"


def main() -> None:
    """Writes the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--note", help="a sentence on what was special about this run")
    options = parser.parse_args()
    run = options.run
    curves = read_curves(run)
    test = json.loads((run / "scores_test.json").read_text())
    captions = {entry["image_id"]: entry["caption"] for entry in json.loads((run / "results_test.json").read_text())}
    (RESULTS / "flickr8k.png").write_bytes(training_figure(curves))
    config = parse(["-c", CONFIG])
    last_step, _ = curves["train/minutes"][-1]
    minutes = sum(trained(curves["train/minutes"]))
    scores = test["scores"]
    ratio = scores["CIDEr-D"] / scores["CIDEr-D_shuffled"]
    lines = [
        "# Flickr8k, real photographs",
        "",
        f"Made by `python -m benchmarks.flickr8k {run}` after the commands at the head of `{CONFIG}`.",
        "",
        f"- {machine()}; {test['precision']}; batch {config.data.init_args.batch_size}; seed {config.seed_everything};",
        f"  commit {commit()}; {datetime.date.today().isoformat()}",
        f"- {last_step + 1} steps, {minutes:.0f} minutes, from cached features",
        *sampling(test),
        *([f"- {options.note}"] if options.note else []),
        "",
        f"Validation split ({test['images']} pictures), weights averaged (EMA):",
        "",
        "| | of their own pictures | of other pictures (control) |",
        "|---|---|---|",
        *(f"| {name} | {scores[name]:.4f} | {control(scores, name)} |" for name in scores if "_" not in name),
        "",
        f"CIDEr-D is {ratio:.1f} times that of the same captions assigned to other pictures.",
        "",
        "![loss and validation curves](flickr8k.png)",
        "",
        "| step | train latent | train caption | val latent | val caption | CIDEr-D | control | BLEU-4 |",
        "|---|---|---|---|---|---|---|---|",
        *curve_rows(curves),
        "",
        "Ten photographs (the first of the split), with the caption and one reference:",
        "",
        "| file | caption | a reference |",
        "|---|---|---|",
    ]
    source = build(spec_of(config.data), CaptionDataModule).split("test")
    for index in range(10):
        image_id = source.image_id(index)
        lines.append(f"| {image_id} | {captions[image_id]} | {source.captions(index)[0]} |")
    (RESULTS / "flickr8k.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"wrote {RESULTS / 'flickr8k.md'}: CIDEr-D {scores['CIDEr-D']:.4f}, {ratio:.1f} times the control")


def control(scores: dict[str, float], name: str) -> str:
    """The score of captions assigned to other pictures, where it is measured: BLEU and CIDEr-D."""
    return f"{scores[name + '_shuffled']:.4f}" if name + "_shuffled" in scores else ""


def trained(minutes: list[tuple[int, float]]) -> list[float]:
    """Minutes of each of the sittings of a run that was stopped and resumed.

    Where the clock counts on from sitting to sitting, as it does since ``TrainingClock``, all are one.

    Example:
        >>> trained([(49, 1.0), (99, 2.0), (149, 0.9), (199, 1.8)])
        [2.0, 1.8]
    """
    values = [value for _, value in minutes]
    return [value for value, later in zip(values, [*values[1:], 0.0], strict=True) if later < value]


def curve_rows(curves: dict[str, list[tuple[int, float]]]) -> list[str]:
    """A row for each validation."""
    names = [
        "train/latent_loss",
        "train/caption_loss",
        "val/latent_loss",
        "val/caption_loss",
        "val/CIDEr-D",
        "val/CIDEr-D_shuffled",
        "val/BLEU-4",
    ]
    rows = []
    for step, _ in curves["val/CIDEr-D"]:
        values = [min(curves[name], key=lambda point: abs(point[0] - step))[1] for name in names]
        rows.append(f"| {step + 1} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
    return rows


if __name__ == "__main__":
    main()
