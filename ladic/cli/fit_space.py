"""``ladic fit-space``: the statistics of a text latent space, and its head where it has none.

Reports how many tokens survive the way into the space and back, clean and under noise: no captioner that works in
the space can do better.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ladic.cli.fitting import check_numbers, check_output
from ladic.cli.parser import LineParser
from ladic.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from ladic.components.latent_spaces import TextLatentSpace

NOISE_LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Standard deviations of noise added to normalised latents, whose own is 1."""


def main(argv: list[str]) -> None:
    """Fits the space of a configuration and writes one safetensors file."""
    parser = LineParser("ladic fit-space", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-c", "--config", required=True, help="configuration with the latent space and the datamodule")
    parser.add_argument("--output", required=True, type=Path, help="file to write (.safetensors)")
    parser.add_argument("--captions", type=int, default=50_000, help="use at most so many (default %(default)s)")
    parser.add_argument(
        "--specials",
        choices=["drop", "keep"],
        default="drop",
        help="special positions in the statistics (default drop)",
    )
    parser.add_argument("--restrict-vocabulary", action="store_true", help="let the head score only words that occur")
    parser.add_argument(
        "--head-steps",
        type=int,
        default=None,
        help="steps of head training (default: 0 with a pretrained head, else 2000)",
    )
    parser.add_argument("--head-noise", type=float, default=0.5, help="most noise the head is trained on")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, …")
    parser.add_argument("overrides", nargs="*", help="flags for the configuration, after --")
    options = parser.parse_args(argv)
    if options.output.suffix != ".safetensors":
        raise UsageError(f"--output {options.output}: the name must end in .safetensors")
    check_numbers(options, "captions", "batch_size")
    if options.head_steps is not None and options.head_steps < 0:
        raise UsageError(f"--head-steps {options.head_steps}: need 0 or more")

    import torch

    from ladic.cli.device import on_device
    from ladic.cli.lightning_cli import model_part, parse, spec_of
    from ladic.components import TextLatentSpace
    from ladic.datamodules import CaptionDataModule
    from ladic.spec import build

    torch.manual_seed(options.seed)
    config = parse(["-c", options.config, *options.overrides])
    check_output(options.output)
    datamodule = build(spec_of(config.data), CaptionDataModule)
    space = on_device(build(model_part(config, "latent_space"), TextLatentSpace, {"fitted": None}), options.device)
    captions = datamodule.train_captions(options.captions)
    accuracies = fit(space, captions, options)
    space.save_fit(
        options.output, {f"accuracy_at_noise_{level}": f"{value:.4f}" for level, value in accuracies.items()}
    )
    print("tokens reconstructed, at noise of standard deviation:")
    print("  " + "   ".join(f"{level:g}: {100 * value:.1f} %" for level, value in accuracies.items()))
    print(f"wrote {options.output}")


def fit(space: TextLatentSpace, captions: list[str], options: Any) -> dict[float, float]:
    """Fits statistics and head; returns the accuracy at each noise level, on captions the head was not trained on."""
    import torch

    tokens, device = space.tokenize(captions), space.normalizer.mean.device
    ids, mask = tokens.input_ids.to(device), tokens.attention_mask.to(device)
    fit_statistics(space, ids, mask, keep_specials=options.specials == "keep", batch_size=options.batch_size)
    if options.restrict_vocabulary:
        # The special tokens of a caption, what stands at its special positions, and [UNK] for words never seen.
        always = [space.tokenizer.pad_token_id, space.tokenizer.unk_token_id, space.filler_id]
        space.head.restrict(torch.unique(torch.cat([ids.flatten(), torch.tensor(always, device=device)])))
    steps = options.head_steps if options.head_steps is not None else (0 if space.trained_head else 2000)
    held_out = max(1, min(2000, len(ids) // 20))
    if steps and len(ids) < 2:
        raise UsageError(
            f"{len(ids)} caption: one is held out, so training the head needs two; --head-steps=0 trains none"
        )
    used = len(space.head.vocabulary)
    print(f"fit-space: {len(captions)} captions, {used} words, {steps} steps for the head", flush=True)
    space.eval()  # accuracies without the dropout that a space may have in training
    if steps:
        train_head(space, ids[held_out:], mask[held_out:], steps, options)
    return {level: accuracy(space, ids[:held_out], mask[:held_out], level) for level in NOISE_LEVELS}


def fit_statistics(space: TextLatentSpace, ids: Tensor, mask: Tensor, keep_specials: bool, batch_size: int) -> None:
    """Mean and deviation of the raw features over all captions, in one pass and constant memory."""
    import torch

    count, total = 0, torch.zeros(space.width, dtype=torch.float64, device=ids.device)
    squares = torch.zeros_like(total)
    with torch.inference_mode():
        for start in range(0, len(ids), batch_size):
            rows = slice(start, start + batch_size)
            features = space.features(ids[rows], mask[rows])
            special = space.special_positions(ids[rows], mask[rows])
            kept = features.flatten(0, 1) if keep_specials else features[~special]
            count += len(kept)
            total += kept.double().sum(0)
            squares += kept.double().square().sum(0)
    mean = total / count
    variance = (squares / count - mean.square()).clamp_min(0) * count / max(1, count - 1)
    space.normalizer.set(mean, variance.sqrt())


def train_head(space: TextLatentSpace, ids: Tensor, mask: Tensor, steps: int, options: Any) -> None:
    """Trains the head to read captions back from latents under up to ``head_noise`` of noise."""
    import torch

    from ladic.precision import fast_autocast

    parameters = list(space.head.parameters())
    optimizer = torch.optim.AdamW(parameters, options.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.learning_rate, total_steps=steps)
    space.train()
    started = time.perf_counter()
    for step in range(steps):
        rows = torch.randint(len(ids), (options.batch_size,)).to(ids.device)
        with fast_autocast(ids.device.type):
            x0 = space.encode(ids[rows], mask[rows])
            noise = options.head_noise * torch.rand(len(x0), 1, 1).to(x0.device) * torch.randn_like(x0)
            loss = space.word_losses(x0 + noise, space.targets(ids[rows], mask[rows]))[0].mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % max(1, steps // 5) == 0:
            elapsed = time.perf_counter() - started
            print(f"  step {step + 1}/{steps}  loss {loss.item():.3f}  {elapsed:.0f} s", flush=True)
    space.eval()


def accuracy(space: TextLatentSpace, ids: Tensor, mask: Tensor, noise: float, batch_size: int = 64) -> float:
    """Share of words (special positions left out) read back right from latents with noise of that deviation."""
    import torch

    right = words = 0
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        for start in range(0, len(ids), batch_size):
            rows = slice(start, start + batch_size)
            x0 = space.encode(ids[rows], mask[rows])
            x0 = x0 + noise * torch.randn(x0.shape, generator=generator).to(x0.device)
            ordinary = ~space.special_positions(ids[rows], mask[rows])
            targets = space.targets(ids[rows], mask[rows])
            hits = space.word_losses(x0, targets)[1] == targets
            right += int((hits & ordinary).sum())
            words += int(ordinary.sum())
    return right / max(1, words)
