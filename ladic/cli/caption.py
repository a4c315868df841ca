"""``ladic caption``: captions for picture files."""

from __future__ import annotations

import dataclasses
import glob
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ladic.cli.model_options import (
    add_choice_options,
    add_length_options,
    add_model_options,
    add_rounding_option,
    check,
    length_range,
)
from ladic.cli.parser import LineParser
from ladic.errors import UsageError

if TYPE_CHECKING:
    from ladic.inference import Caption
    from ladic.metrics.functional.cider import DocumentFrequencies
    from ladic.pictures import Picture


def main(argv: list[str]) -> int:
    """Prints a caption per picture; 1 if some picture could not be read, the others captioned all the same."""
    parser = LineParser("ladic caption", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="files, folders or globs")
    add_model_options(parser)
    add_choice_options(parser)
    parser.add_argument("--num-captions", type=int, default=1, help="captions printed for each picture")
    parser.add_argument("--diverse", action="store_true", help="with --num-captions: captions that differ")
    add_length_options(parser)
    add_rounding_option(parser)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--json", action="store_true", help="one JSON object per picture, with all candidates")
    options = parser.parse_args(argv)
    check(options)
    if options.diverse and options.num_captions < 2:
        raise UsageError("--diverse: is about several captions; give --num-captions too")
    length = length_range(options)
    files = expand(options.images)

    from ladic.acceleration import padded
    from ladic.cli.model_options import load_model
    from ladic.metrics.functional.cider import DocumentFrequencies

    model = load_model(options)
    if options.num_candidates is None:
        model.num_candidates = max(model.num_candidates, options.num_captions)
    if length is not None:
        length.check(model.length, model.length_option)
    broken: list[UsageError] = []
    frequencies = None
    if options.frequencies and options.json and options.num_captions > 1:
        frequencies = DocumentFrequencies.load(options.frequencies)
    wanted = {"num_captions": options.num_captions, "diverse": options.diverse, "length": length}
    size = 0
    for pictures in batches(files, options.batch_size, model.preprocess, broken):
        size = max(size, len(pictures))
        whole = padded(pictures, size) if model.compiled else pictures  # one shape compiles once
        for result in model.caption(whole, batch_size=options.batch_size, **wanted)[: len(pictures)]:
            show(result, options, several=len(files) > 1, frequencies=frequencies)
    return 1 if broken else 0


def show(result: Caption, options: Any, several: bool, frequencies: DocumentFrequencies | None) -> None:
    """Prints one picture's captions."""
    if options.json:
        record = {key: value for key, value in dataclasses.asdict(result).items() if key != "captions"}
        if options.num_captions > 1:
            record |= {"captions": result.captions, "diversity": measured(result.captions, frequencies)}
        print(json.dumps(record, ensure_ascii=False))
        return
    for caption in result.captions:
        print(f"{result.image}: {caption}" if several else caption)


def measured(captions: list[str], frequencies: DocumentFrequencies | None) -> dict[str, float | None] | None:
    """Diversity of a picture's captions; None if there is but one."""
    from ladic.metrics.functional.diversity import diversity
    from ladic.metrics.functional.ptb_tokenizer import ptb_tokenize_all

    if len(captions) < 2:
        return None
    return diversity(ptb_tokenize_all(captions), frequencies)


def batches(files: list[Path], size: int, preprocess: Any, broken: list[UsageError]) -> Iterator[list[Picture]]:
    """Pictures a batch at a time, with a bar in a terminal; what can't be read is told and put into ``broken``."""
    from rich.console import Console
    from rich.progress import track

    from ladic.pictures import read_picture

    bar = Console(stderr=True)
    parts = [files[i : i + size] for i in range(0, len(files), size)]
    shown = len(parts) > 1 and bar.is_terminal
    for part in track(parts, "captioning", console=bar, transient=True) if shown else parts:
        pictures = []
        for path in part:
            try:
                pictures.append(read_picture(path, preprocess))
            except UsageError as error:
                broken.append(error)
                print(f"error: {error}", file=sys.stderr)
        if pictures:
            yield pictures


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
