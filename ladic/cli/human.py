"""``ladic human export`` and ``ladic human score``: a blinded human evaluation as a page, and what its ratings say.

ladic human export ours.json theirs.json --images photos --output study
ladic human score ratings-*.json --key study.key.json
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ladic.cli.parser import LineParser
from ladic.errors import UsageError
from ladic.json_files import parse_json, read_text

if TYPE_CHECKING:
    from argparse import Namespace

    from PIL import Image

    from ladic.human_study import Analysis


def main(argv: list[str]) -> int:
    """Runs one of the two."""
    parser = LineParser("ladic human", description=(__doc__ or "").splitlines()[0])
    subcommands = parser.add_subparsers(dest="action", required=True, metavar="{export,score}")
    export = subcommands.add_parser("export", help="write the page that raters open, and the key that stays with you")
    export.add_argument("results", nargs="+", metavar="RESULTS.json", help="captions of the systems, one file each")
    export.add_argument("--names", help="what the systems are called, with commas between; file names by default")
    export.add_argument("--images", metavar="FOLDER", help="where the pictures are")
    export.add_argument("-c", "--config", help="instead: a configuration whose datamodule has the pictures")
    export.add_argument("--split", choices=["train", "val", "test"], default="test", help="of --config (default test)")
    export.add_argument("--count", type=int, default=10, help="pictures to rate (default %(default)s, the paper's)")
    export.add_argument("--seed", type=int, default=0, help="of the draw (default %(default)s)")
    export.add_argument("--title", default="Rating captions", help="heading of the page")
    export.add_argument("--output", type=Path, required=True, help="the page is OUTPUT.html, the key OUTPUT.key.json")
    score = subcommands.add_parser("score", help="mean opinion scores with intervals, and how far raters agree")
    score.add_argument("ratings", nargs="+", metavar="RATINGS.json", help="files that raters saved, one each")
    score.add_argument("--key", type=Path, required=True, help="the key that export wrote")
    score.add_argument("--json", metavar="FILE", type=Path, help="write everything here")
    options = parser.parse_args(argv)
    return write_study(options) if options.action == "export" else score_study(options)


def write_study(options: Namespace) -> int:
    """Draws pictures and writes page and key."""
    from ladic.human_page import study_page
    from ladic.human_study import draw_items, make_key
    from ladic.json_files import write_whole
    from ladic.metrics.caption_files import read_captions

    names = [name.strip() for name in options.names.split(",")] if options.names else default_names(options.results)
    if len(names) != len(options.results) or len(set(names)) != len(names) or not all(names):
        raise UsageError(f"--names {options.names}: need {len(options.results)} different names, one for each file")
    if options.count < 1:
        raise UsageError(f"--count {options.count}: need at least 1")
    if (options.images is None) == (options.config is None):
        raise UsageError("--images FOLDER or -c CONFIG: one of the two says where the pictures are")
    if options.output.name in ("", ".."):
        raise UsageError(f"--output {options.output}: has no name; the page is OUTPUT.html, so give one such as study")
    systems = {name: read_captions(file) for name, file in zip(names, options.results, strict=True)}
    items = draw_items(systems, options.count, options.seed)
    html, key = (options.output.with_name(options.output.name + end) for end in (".html", ".key.json"))
    content = make_key(items, options.seed)
    if key.exists() and not is_key_of(key, content["study"]):
        raise UsageError(
            f"--output {options.output}: '{key}' is there, and not the key of this study; without it the ratings of "
            "another can't be read: choose another --output"
        )
    wanted = list(dict.fromkeys(item.image_id for item in items))
    page = study_page(items, pictures(wanted, systems[names[0]], options), options.title)
    try:
        write_whole(key, (json.dumps(content, indent=1) + "\n").encode())
        write_whole(html, page.encode())
    except OSError as error:
        raise UsageError(f"--output {options.output}: can't be written: {error}") from error
    print(f"{len(wanted)} pictures, {len(items)} captions of {len(systems)} systems")
    print(f"wrote {html}: give it to the raters; each saves a file of ratings and sends it to you")
    print(f"wrote {key}: keep it; it says which system each caption is from")
    return 0


def is_key_of(file: Path, study: str) -> bool:
    """Whether a file is the key of a study."""
    try:
        content = read(file)
    except UsageError:
        return False
    return isinstance(content, dict) and content.get("study") == study


def default_names(files: list[str]) -> list[str]:
    """Names of files without their endings; with their folders where those are what tells them apart.

    >>> default_names(["a/ours.json", "b/theirs.json"])
    ['ours', 'theirs']
    >>> default_names(["a/results_test.json", "b/results_test.json"])
    ['a', 'b']
    """
    for name in (lambda p: p.stem, lambda p: p.parent.name, lambda p: str(p.with_suffix(""))):
        names = [name(Path(file)) for file in files]
        if len(set(names)) == len(names):
            return names
    return names


def pictures(wanted: list[str], named: dict[Any, str], options: Namespace) -> dict[str, Image.Image]:
    """The pictures of image ids, from a folder or from a datamodule."""
    if options.images is not None:
        from ladic.datamodules.images import open_image
        from ladic.metrics.picture_files import find_pictures

        ids = [image_id for image_id in named if str(image_id) in set(wanted)]
        return {str(i): open_image(file) for i, file in find_pictures(options.images, ids).items()}
    from ladic.cli.lightning_cli import parse, spec_of
    from ladic.datamodules import CaptionDataModule
    from ladic.spec import build

    source = build(spec_of(parse(["-c", options.config]).data), CaptionDataModule).split(options.split)
    places = {str(source.image_id(index)): index for index in range(len(source))}
    missing = [image_id for image_id in wanted if image_id not in places]
    if missing:
        raise UsageError(f"-c {options.config}: its {options.split} split has no image '{missing[0]}'; try --split")
    return {image_id: source.image(places[image_id]) for image_id in wanted}


def score_study(options: Namespace) -> int:
    """Prints table 2 and the agreement."""
    from dataclasses import asdict

    from ladic.human_study import analyse, check_key, check_ratings
    from ladic.json_files import write_json

    key = check_key(read(options.key), str(options.key))
    files = [read(Path(file)) for file in options.ratings]
    raters = [check_ratings(content, key, file) for content, file in zip(files, options.ratings, strict=True)]
    people = [str(content.get("rater")) for content in files]
    twice = sorted({name for name in people if people.count(name) > 1})
    if twice:
        raise UsageError(f"rater '{twice[0]}' comes twice; give each rater's newest file alone")
    analysis = analyse(raters, key)
    show(analysis)
    if options.json:
        write_json(options.json, null_for_nan(asdict(analysis)))
        print(f"\nwrote {options.json}")
    return 0


def show(analysis: Analysis) -> None:
    """The tables."""
    systems = list(next(iter(analysis.opinions.values())))
    width = max(18, *(len(name) + 2 for name in systems))
    print(f"{analysis.raters} raters, {analysis.pictures} pictures; mean opinion, 1 to 5, and its 95 % interval\n")
    print(f"{'':<13}" + "".join(f"{name:>{width}}" for name in systems))
    for aspect, by_system in analysis.opinions.items():
        cells = (f"{o.mean:.2f} [{o.low:.2f}, {o.high:.2f}]" if o.ratings else "none" for o in by_system.values())
        print(f"{aspect:<13}" + "".join(f"{cell:>{width}}" for cell in cells))
    print(f"\n{'agreement':<13}{'alpha':>8}{'correlation':>14}{'pairs':>8}")
    for aspect, alpha in analysis.alpha.items():
        correlation, pairs = analysis.correlations[aspect]
        print(f"{aspect:<13}{number(alpha):>8}{number(correlation):>14}{pairs:>8}")
    print("alpha: Krippendorff's, interval; correlation: Pearson's, mean over pairs of raters")


def number(value: float) -> str:
    """Two digits, or that there is none."""
    return "none" if value != value else f"{value:.2f}"


def null_for_nan(value: Any) -> Any:
    """The same with None for numbers that there are none of: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: null_for_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [null_for_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def read(path: Path) -> Any:
    """A JSON file.

    Raises:
        UsageError: if it isn't there or is broken.
    """
    try:
        return parse_json(read_text(path))
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not JSON ({error})") from error
