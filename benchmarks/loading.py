"""``python -m benchmarks.loading``: pictures and training steps a second, through the encoder and from the cache.

Flickr8k's real pictures, as ``configs/flickr8k.yaml`` trains on them, with its own encoder and with a ViT-B/16 (random
weights: they cost the same). What a step waits for is told apart: loading, encoding, and the rest (denoiser, text
space, backward pass, optimiser).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.pages import conditions
from ladic.cli.cache_features import main as cache_features
from ladic.cli.lightning_cli import built

CONFIG = "configs/flickr8k.yaml"
ENCODERS = {
    "MobileNetV2 (the configuration's)": [],
    "ViT-B/16": ["--model.image_encoder=TimmEncoder", "--model.image_encoder.model_name=vit_base_patch16_224",
                 "--model.image_encoder.checkpoint_path=null", "--model.image_encoder.model_kwargs={}"],
}  # fmt: skip
FITTED = "--model.latent_space.fitted=null"
TARGET = 3.0


def main() -> None:
    """Measures and writes ``benchmarks/results/loading.md``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=256, help="pictures to load and to cache")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5, help="steps of each kind, in turn, after one to warm up")
    options = parser.parse_args()
    common = [
        f"--data.limit_train={options.images}",
        f"--data.batch_size={options.batch_size}",
        "--data.limit_eval=1",
        FITTED,
    ]
    loading, steps = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name, flags in ENCODERS.items():
            features = Path(folder) / name.split()[0].replace("/", "-")
            words = ["-c", CONFIG, "--output", str(features), "--splits=train,val", "--batch-size=16"]
            begun = time.perf_counter()
            cache_features([*words, "--", *common, *flags])
            caching = options.images / (time.perf_counter() - begun)
            size = sum(file.stat().st_size for file in features.glob("train-*.npy")) / options.images / 1024
            kinds = {"encoder in the loop": [], "cached": [f"--data.features={features}"]}
            for kind, extra in kinds.items():
                for workers in (0, 2):
                    rate = images_per_second([*common, *flags, *extra, f"--data.num_workers={workers}"])
                    loading.append((name, kind, workers, rate))
            measured = training_steps(
                {kind: [*common, *flags, *extra] for kind, extra in kinds.items()}, options.rounds
            )
            steps.append((name, measured, caching, size))
    page = Path(__file__).parent / "results" / "loading.md"
    page.write_text("\n".join(lines(options, loading, steps)) + "\n", encoding="utf-8")
    print(page.read_text(encoding="utf-8"))


def prepared(flags: list[str]) -> tuple[Any, Any]:
    """Model and datamodule of the configuration with flags, ready to train."""
    cli = built(["-c", CONFIG, *flags])
    cli.datamodule.bind(cli.model)
    cli.datamodule.setup("fit")
    return cli.model, cli.datamodule


def endless(datamodule: Any) -> Iterator[Any]:
    """Training batches, epoch after epoch."""
    loader = datamodule.train_dataloader()
    while True:
        yield from loader


def images_per_second(flags: list[str], seconds: float = 8.0) -> float:
    """Rate of the loader alone, after its workers have started."""
    _, datamodule = prepared(flags)
    batches = endless(datamodule)
    next(batches)
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        count += len(next(batches)["image_id"])
    return count / (time.perf_counter() - begun)


def training_steps(kinds: dict[str, list[str]], rounds: int) -> dict[str, dict[str, float]]:
    """Median seconds of a step and of its parts, the kinds taking turns."""
    runs = {kind: stepper(*prepared(flags)) for kind, flags in kinds.items()}
    times: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for turn in range(rounds + 1):
        for kind, run in runs.items():
            parts = run()
            if turn:
                times[kind].append(parts)
    return {
        kind: {part: statistics.median(turn[part] for turn in taken) for part in taken[0]}
        for kind, taken in times.items()
    }


def stepper(model: Any, datamodule: Any) -> Callable[[], dict[str, float]]:
    """A function that trains one step and says how long each part took."""
    model.latent_space.normalizer.set(torch.zeros(model.latent_space.width), torch.ones(model.latent_space.width))
    model.train()
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-4)
    batches = endless(datamodule)

    def step() -> dict[str, float]:
        begun = time.perf_counter()
        batch = next(batches)
        loaded = time.perf_counter()
        with torch.no_grad():
            tokens = model.image_tokens(batch)
        encoded = time.perf_counter()
        loss = model.losses({**batch, "image_tokens": tokens})["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        done = time.perf_counter()
        return {"loading": loaded - begun, "encoding": encoded - loaded, "rest": done - encoded, "step": done - begun}

    return step


def lines(options: Any, loading: list[Any], steps: list[Any]) -> list[str]:
    """The page."""
    rows = [
        f"| {name} | {kind} | {part['loading']:.3f} | {part['encoding']:.3f} | {part['rest']:.3f} | "
        f"{part['step']:.3f} | {options.batch_size / part['step']:.1f} | {bound(part)} |"
        for name, measured, _, _ in steps
        for kind, part in measured.items()
    ]
    ratios = [
        f"- {name}: a step from the cache is {ratio(measured):.1f} times as fast as with the encoder in the loop; "
        f"caching ran at {caching:.1f} pictures a second (once, with start-up and the sample encoded again) and takes "
        f"{size:.0f} KiB a picture in fp16"
        for name, measured, caching, size in steps
    ]
    return [
        "# Loading and the feature cache",
        "",
        f"`python -m benchmarks.loading --images {options.images} --batch-size {options.batch_size} "
        f"--rounds {options.rounds}`",
        "",
        conditions("fp32", "seed 0"),
        f"- Flickr8k, {options.images} pictures of 176 pixels, WebP, prepared for 224; batches of {options.batch_size}",
        "",
        "Loading alone, pictures a second:",
        "",
        "| encoder | what is loaded | workers | pictures a second |",
        "|---|---|---:|---:|",
        *(
            f"| {name} | {'tokens' if kind == 'cached' else 'pictures, prepared'} | {workers} | {rate:.0f} |"
            for name, kind, workers, rate in loading
        ),
        "",
        f"A training step without workers, in seconds (medians of {options.rounds}, kinds in turn):",
        "",
        "| encoder | image tokens | loading | encoding | rest | step | captions a second | bound by |",
        "|---|---|---:|---:|---:|---:|---:|---|",
        *rows,
        "",
        *ratios,
        f"- Target: loading from the cache is never the bound; with a ViT-B a step takes 1/{TARGET:g} at most.",
        "- The cache of so few pictures is read over and over and lies in memory: no disk is measured here.",
    ]


def bound(parts: dict[str, float]) -> str:
    """The part that takes longest."""
    return max(("loading", "encoding", "rest"), key=lambda part: parts[part])


def ratio(measured: dict[str, dict[str, float]]) -> float:
    """How many times as fast a cached step is."""
    return measured["encoder in the loop"]["step"] / measured["cached"]["step"]


if __name__ == "__main__":
    main()
