"""``python -m benchmarks.demo RUN``: the page of results of a run of ``make demo``, ``benchmarks/results/demo.md``."""

from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path

from benchmarks.pages import commit, sampling
from benchmarks.timing import machine
from ladic.plots import read_curves

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
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
    print(f"wrote {RESULTS / 'demo.md'}: {100 * true:.1f} % true, {100 * named:.1f} % named, {total:.0f} s")


if __name__ == "__main__":
    main()
