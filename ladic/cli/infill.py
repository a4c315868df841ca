"""``ladic infill``: blanks in captions filled in view of the picture."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ladic.cli.model_options import add_choice_options, add_model_options, check
from ladic.cli.parser import LineParser
from ladic.errors import UsageError

if TYPE_CHECKING:
    from ladic.pictures import Picture


def main(argv: list[str]) -> int:
    """Prints the filled caption of each picture and template; 1 if some picture of ``--batch`` could not be read."""
    parser = LineParser("ladic infill", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("image", nargs="?", metavar="IMAGE", help="picture file")
    parser.add_argument(
        "templates",
        nargs="*",
        metavar="TEMPLATE",
        help="a caption with blanks: ___ for one of any length, ___{2} for one of two words",
    )
    parser.add_argument("--batch", type=Path, metavar="FILE", help='JSON: [{"image": FILE, "template": TEXT}, …]')
    add_model_options(parser)
    add_choice_options(parser)
    parser.add_argument(
        "--longest-blank", type=int, default=4, help="most tokens in a free blank (default %(default)s)"
    )
    parser.add_argument(
        "--clamp",
        choices=["masked", "reencoded", "late"],
        default="reencoded",
        help="what given words are held at: their latents without the blanks, with them as they read at every step, or "
        "the first while t > 0.5 and the second from there on (default %(default)s)",
    )
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--json", action="store_true", help="one JSON object per template, with all candidates")
    options = parser.parse_args(argv)
    check(options)
    pairs = asked(options)

    from ladic.captioner import LatentDiffusionCaptioner
    from ladic.cli.model_options import load_model
    from ladic.template import Template

    parsed = [Template.parse(text) for text in dict.fromkeys(text for _, text in pairs)]  # before the model is loaded
    chosen = options.rerank or options.utility
    model = load_model(options, LatentDiffusionCaptioner)
    for template in parsed:  # before anything is filled
        template.layouts(model.latent_space.tokenizer, model.latent_space.length, options.longest_blank)
    several = len({image for image, _ in pairs}) > 1
    broken: set[str] = set()
    for start in range(0, len(pairs), options.batch_size):
        part = pairs[start : start + options.batch_size]
        pictures = readable([image for image, _ in part], model.preprocess, broken, alone=options.batch is None)
        whole = [(pictures[image], template) for image, template in part if image in pictures]
        if not whole:
            continue
        results = model.infill(
            [picture for picture, _ in whole],
            [template for _, template in whole],
            num_candidates=options.num_candidates or 1,
            clamp=options.clamp,
            longest_blank=options.longest_blank,
            selector=model.selector if chosen else None,
            batch_size=options.batch_size,
        )
        for result in results:
            named = f"{result.image}: {result.caption}" if several else result.caption
            line = json.dumps(dataclasses.asdict(result), ensure_ascii=False) if options.json else named
            print(line, flush=True)
    return 1 if broken else 0


def readable(names: list[str], preprocess: Any, broken: set[str], alone: bool) -> dict[str, Picture]:
    """Pictures by name, each read once; what can't be read is told and put into ``broken``.

    Raises:
        UsageError: if the picture is ``alone``, and can't be read.
    """
    from ladic.pictures import read_picture

    pictures = {}
    for name in dict.fromkeys(name for name in names if name not in broken):
        try:
            pictures[name] = read_picture(name, preprocess)
        except UsageError as error:
            if alone:
                raise
            broken.add(name)
            print(f"error: {error}", file=sys.stderr)
    return pictures


def asked(options: Any) -> list[tuple[str, str]]:
    """Pairs of picture and template, from the words or from the file.

    Raises:
        UsageError: if there are none, or the file is something else.
    """
    if options.batch is None:
        if options.image is None or not options.templates:
            raise UsageError('give IMAGE and "a ___ on a ___", or --batch FILE')
        return [(options.image, template) for template in options.templates]
    if options.image is not None:
        raise UsageError(f"--batch {options.batch}: the pictures are named in it; leave out '{options.image}'")
    from ladic.json_files import parse_json, read_text

    try:
        entries = parse_json(read_text(options.batch))
    except OSError as error:
        raise UsageError(f"--batch {options.batch}: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"--batch {options.batch}: not JSON ({error})") from error
    if not isinstance(entries, list) or not entries:
        raise UsageError(f'--batch {options.batch}: accepted is a list [{{"image": FILE, "template": TEXT}}, …]')
    pairs = []
    for number, entry in enumerate(entries):
        values = [entry.get(key) for key in ("image", "template")] if isinstance(entry, dict) else [None]
        if not all(isinstance(value, str) for value in values):
            raise UsageError(f'--batch {options.batch}: entry {number} (from 0) has no "image" and "template" texts')
        pairs.append((str(values[0]), str(values[1])))
    return pairs
