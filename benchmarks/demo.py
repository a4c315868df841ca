"""``python -m benchmarks.demo RUN``: what a run of ``make demo`` reached.

Writes the page ``benchmarks/results/demo.md`` and the README's picture ``docs/demo.png``: the first test scenes, with
what was said of them and which of it is true.
"""

from __future__ import annotations

import argparse
import datetime
import json
import textwrap
from pathlib import Path

from benchmarks.pages import RESULTS, commit, sampling
from benchmarks.timing import machine
from ladic.datamodules import ShapesDataModule
from ladic.plots import read_curves

PICTURE = Path(__file__).parents[1] / "docs" / "demo.png"


def main() -> None:
    """Writes the page and the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--install", type=float, required=True, help="seconds that `make .venv/.installed` took")
    options = parser.parse_args()
    run = options.run
    curves = read_curves(run)
    test = json.loads((run / "scores_test.json").read_text())
    seconds = json.loads((run / "seconds.json").read_text())
    true, named = (curves[f"test/{name}"][-1][1] for name in ("wholly_true", "objects_named"))
    scores, total = test["scores"], sum(seconds.values())
    shares = ", ".join(f"{100 * value:.0f} % at {step + 1:,}" for step, value in curves["val/wholly_true"])
    lines = [
        "# The demo",
        "",
        f"`make demo`, then `python -m benchmarks.demo {run} --install {options.install:.0f}`.",
        "",
        f"- {machine()}; {test['precision']}; seed {test['seeds']['seed_everything']}; commit {commit()}; "
        f"{datetime.date.today().isoformat()}",
        f"- {test['step']:,} steps",
        *sampling(test),
        "",
        f"| {test['images']} unseen test scenes | |",
        "|---|---|",
        f"| captions wholly true of their scene | {100 * true:.1f} % |",
        f"| objects named | {100 * named:.1f} % |",
        f"| CIDEr-D; of the same captions assigned to other scenes | {scores['CIDEr-D']:.3f}; "
        f"{scores['CIDEr-D_shuffled']:.3f} |",
        f"| BLEU-4 | {scores['BLEU-4']:.3f} |",
        "",
        "| seconds for | |",
        "|---|---|",
        f"| installing | {options.install:.0f} |",
        *(f"| `ladic {name}` | {value:.0f} |" for name, value in seconds.items()),
        f"| all | {total + options.install:.0f} |",
        "",
        f"Validation captions wholly true, by steps: {shares}.",
    ]
    (RESULTS / "demo.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    captions = {entry["image_id"]: entry["caption"] for entry in json.loads((run / "results_test.json").read_text())}
    draw(captions, scenes=4)
    print(
        f"wrote {RESULTS / 'demo.md'} and {PICTURE}: {100 * true:.1f} % true, {100 * named:.1f} % named, {total:.0f} s"
    )


def draw(captions: dict[str, str], scenes: int) -> None:
    """The first scenes of the test split side by side, each with its caption and the verdict on every claim."""
    from matplotlib.figure import Figure

    data = ShapesDataModule()
    source = data.source("test")
    width, height, line = 2.7, 4.2, 0.17  # inches; the pictures stand above the text
    figure = Figure(figsize=(width * scenes, height))
    for index in range(scenes):
        image_id = str(source.image_id(index))
        verdict = data.truth("test", image_id, captions[image_id])
        axes = figure.add_axes((index / scenes + 0.01, 1 - 1.85 / height, 1.8 / width / scenes, 1.8 / height))
        axes.imshow(source.image(index))
        axes.set_axis_off()
        lines = [(text, "black", "bold") for text in textwrap.wrap(captions[image_id], 32)]
        for claim in verdict.claims:
            mark, colour = ("\u2713", "#0a7d33") if claim.holds else ("\u2717", "#b3261e")
            lines.append((f"{mark} {claim.text}", colour, "normal"))
        for number, (text, colour, weight) in enumerate(lines):
            y = 1 - (2.05 + number * line) / height
            figure.text(index / scenes + 0.01, y, text, fontsize=9, color=colour, fontweight=weight)
    figure.savefig(PICTURE, dpi=80)


if __name__ == "__main__":
    main()
