"""``ladic caption``: captions for picture files."""

from __future__ import annotations

import glob
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ladic.cli.parser import LineParser
from ladic.errors import UsageError


def main(argv: list[str]) -> int:
    """Prints a caption per picture; 1 if some picture could not be read, the others captioned all the same."""
    parser = LineParser("ladic caption", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="files, folders or globs")
    parser.add_argument("--checkpoint", required=True, help="a .ckpt file or the folder of a run")
    parser.add_argument("--num-candidates", type=int, help="captions drawn for each picture, of which one is chosen")
    parser.add_argument("--num-steps", type=int, help="sampling steps instead of the checkpoint's")
    parser.add_argument("--guidance-scale", type=float, help="1 is no guidance; instead of the checkpoint's")
    parser.add_argument("--seed", type=int, help="of the noise")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, …")
    parser.add_argument("--json", action="store_true", help="one JSON object per picture, with all candidates")
    options = parser.parse_args(argv)
    for name in ("num_candidates", "num_steps", "batch_size"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} {value}: need at least 1")
    files = expand(options.images)

    import torch
    from rich.console import Console
    from rich.progress import track

    from ladic.captioner import LatentDiffusionCaptioner
    from ladic.datamodules.images import open_image
    from ladic.datamodules.transforms import to_tensor
    from ladic.plugins import load_plugins
    from ladic.types import CaptionBatch

    load_plugins()
    device = ("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device
    try:
        model = LatentDiffusionCaptioner.load_from_checkpoint(options.checkpoint, map_location=torch.device(device))
    except RuntimeError as error:
        raise UsageError(f"--device {options.device}: {str(error).splitlines()[0]}") from error
    apply_options(model, options)
    broken = 0
    batches = [files[i : i + options.batch_size] for i in range(0, len(files), options.batch_size)]
    bar = Console(stderr=True)
    for batch in track(
        batches, "captioning", console=bar, disable=len(batches) < 2 or not bar.is_terminal, transient=True
    ):
        pictures: list[tuple[Path, Any]] = []
        for path in batch:
            try:
                pictures.append((path, to_tensor(open_image(path), model.preprocess)))
            except UsageError as error:
                broken += 1
                print(f"error: {error}", file=sys.stderr)
        if not pictures:
            continue
        rows: CaptionBatch = {
            # The content of a picture seeds its noise, so that a renamed or moved file keeps its caption.
            "image_id": [content_id(path) for path, _ in pictures],
            "image": torch.stack([tensor for _, tensor in pictures]).to(device),
        }
        with torch.inference_mode():
            rows["image_tokens"] = model.image_tokens(rows)
        generation = model.generate(rows)
        chosen, spent = model.choose(rows, generation.candidates)
        for (path, _), caption, candidates, choosing in zip(
            pictures, chosen, generation.candidates, spent, strict=True
        ):
            if options.json:
                record = {
                    "image": str(path),
                    "caption": caption,
                    "candidates": candidates,
                    "nfe": generation.nfe,
                    "selection_nfe": choosing,
                }
                print(json.dumps(record, ensure_ascii=False))
            else:
                print(f"{path}: {caption}" if len(files) > 1 else caption)
    return 1 if broken else 0


def expand(patterns: Iterable[str]) -> list[Path]:
    """Files that names, folders and globs stand for; a missing name stays, to be complained about in its turn.

    Raises:
        UsageError: if nothing is left, or a folder has no pictures.
    """
    from ladic.datamodules.images import SUFFIXES

    files: list[Path] = []
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
            if not found:
                raise UsageError(f"'{pattern}': the folder has no pictures ({', '.join(sorted(SUFFIXES))})")
            files += found
        elif not path.exists() and glob.has_magic(pattern):
            found = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]
            if not found:
                raise UsageError(f"'{pattern}': no file matches")
            files += [file for file in found if file.is_file()]
        else:
            files.append(path)
    return files


def apply_options(model: Any, options: Any) -> None:
    """Sampling options given on the command line replace those of the checkpoint."""
    from dataclasses import replace

    if options.num_candidates is not None:
        model.num_candidates = options.num_candidates
    if options.num_steps is not None:
        model.sampler = model.sampler.with_steps(options.num_steps)
    if options.guidance_scale is not None:
        model.guidance = replace(model.guidance, scale=options.guidance_scale)
    if options.seed is not None:
        model.seed = options.seed


def content_id(path: Path) -> str:
    """Digest of a file."""
    import hashlib

    return hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
