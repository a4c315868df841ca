"""``ladic data check`` and ``ladic data download``."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ladic.cli.parser import LineParser
from ladic.errors import UsageError
from ladic.plugins import unknown

SPLITS = ("train", "val", "test")


def main(argv: list[str]) -> int:
    """Runs the one named first."""
    commands: dict[str, Callable[[list[str]], int]] = {"check": check, "download": download}
    word = argv[0] if argv else "--help"
    if word in ("-h", "--help"):
        print("usage: ladic data {check,download} [OPTION …]\n")
        print("  check     counts, broken pictures, captions, token lengths and duplicates of a configuration's data")
        print("  download  what can be fetched where, and fetching it")
        return 0 if argv else 2
    if word not in commands:
        raise unknown("subcommand of data", word, commands)
    return commands[word](argv[1:])


def check(argv: list[str]) -> int:
    """Reports on the data of a configuration; 1 if a picture is broken or is in two splits."""
    parser = LineParser("ladic data check", description="Looks at every split of a configuration's data.")
    parser.add_argument("-c", "--config", required=True, help="configuration with the datamodule")
    parser.add_argument("--splits", default="train,val,test", help="splits, comma-separated (default %(default)s)")
    parser.add_argument("--images", type=int, help="decode only so many pictures of each split, at random; 0 for none")
    parser.add_argument("--sheet", type=Path, help="PNG to write: pictures of each split with their captions")
    parser.add_argument("--json", type=Path, dest="report", help="file to write everything into")
    parser.add_argument("overrides", nargs="*", help="flags for the configuration, after --")
    options = parser.parse_args(argv)
    splits = options.splits.split(",")
    if not set(splits) <= set(SPLITS):
        raise UsageError(f"--splits {options.splits}: accepted are train, val and test")
    if options.images is not None and options.images < 0:
        raise UsageError(f"--images {options.images}: need 0 or more")

    from ladic.cli.lightning_cli import model_part, parse, spec_of
    from ladic.components import TextLatentSpace
    from ladic.datamodules import CaptionDataModule
    from ladic.datamodules.check import check_captions, check_pictures
    from ladic.datamodules.contact_sheet import contact_sheet
    from ladic.datamodules.files import FilesDataModule
    from ladic.spec import build

    config = parse(["-c", options.config, *options.overrides])
    datamodule = build(spec_of(config.data), CaptionDataModule)
    space = build(model_part(config, "latent_space"), TextLatentSpace, {"fitted": None})
    reports, sheets, told = {}, [], []
    seen: dict[str, tuple[str, int | str]] = {}
    for split in splits:
        try:
            source = datamodule.split(split)
        except UsageError as error:
            if split == splits[0] or "no pictures for" not in str(error):
                raise
            told.append(str(error))
            continue
        report = check_captions(source, space.token_lengths, space.length)
        chosen = _some(len(source), options.images)
        with _progress(f"{split}: decoding", len(chosen)) as tick:
            check_pictures(source, split, report, chosen, seen, tick)
        reports[split] = report
        print("\n".join(_lines(split, report)), flush=True)
        if options.sheet is not None:
            sheets.append(contact_sheet(source))
    shared = _shared({split: datamodule.split(split) for split in reports})
    if isinstance(datamodule, FilesDataModule) and datamodule.published:
        told.append(datamodule.other_counts() or "the splits have the published sizes")
    for line in (*told, *shared):
        print(line)
    if options.sheet is not None and sheets:
        _stack(sheets).save(options.sheet)
        print(f"wrote {options.sheet}")
    if options.report is not None:
        from ladic.json_files import write_json

        write_json(options.report, {split: report.as_json() for split, report in reports.items()} | {"shared": shared})
        print(f"wrote {options.report}")
    return int(bool(shared) or any(report.broken or report.elsewhere for report in reports.values()))


def _some(count: int, wanted: int | None) -> range | list[int]:
    """Indices of pictures to look at: all, or so many at random (the same every time)."""
    if wanted is None or wanted >= count:
        return range(count)
    import numpy as np

    return sorted(np.random.default_rng(0).permutation(count)[:wanted].tolist())


def _lines(split: str, report: Any) -> list[str]:
    """A split's report in words."""
    from ladic.datamodules.check import histogram

    each = ", ".join(f"{pictures} with {captions}" for captions, pictures in report.per_picture.items())
    lines = [f"{split}: {report.pictures} pictures, {report.captions} captions ({each})"]
    if report.blank:
        lines.append(f"  {report.blank} blank captions are left out")
    looked = "all" if report.looked_at == report.pictures else f"{report.looked_at} of {report.pictures}"
    if report.looked_at:
        missing = sum("no such file" in reason for reason in report.broken.values())
        lines.append(f"  {looked} pictures decoded: {missing} missing, {len(report.broken) - missing} broken")
        lines += [f"    {reason}" for reason in list(report.broken.values())[:10]]
        if len(report.broken) > 10:
            lines.append(f"    and {len(report.broken) - 10} more; --json FILE lists all")
    if report.smallest is not None:
        height, width, name = report.smallest
        lines.append(f"  smallest picture {width} x {height} pixels: {name}")
    if report.twice:
        name, first = report.twice[0]
        lines.append(f"  {len(report.twice)} pictures are files that come twice, the first: {name} is {first}")
    if report.elsewhere:
        name, other, first = report.elsewhere[0]
        lines.append(
            f"  {len(report.elsewhere)} files are in another split too, the first: {name} is {first} of {other}"
        )
    if report.lengths:
        lines.append(f"  tokens of a caption, of which the latent space takes {report.length}: {report.cut} are cut")
        lines += [f"    {line}" for line in histogram(report.lengths, report.length)]
    return lines


def _shared(sources: dict[str, Any]) -> list[str]:
    """Lines about images that are in two splits."""
    ids = {split: {source.image_id(index) for index in range(len(source))} for split, source in sources.items()}
    lines = []
    for one, first in ids.items():
        for other, second in ids.items():
            both = sorted(map(str, first & second))
            if one < other and both:
                lines.append(f"{len(both)} images are in {one} and in {other}, among them {', '.join(both[:3])}")
    return lines


def _stack(sheets: list[Any]) -> Any:
    """Sheets above each other."""
    from PIL import Image

    whole = Image.new("RGB", (max(s.width for s in sheets), sum(s.height for s in sheets)), "white")
    top = 0
    for one in sheets:
        whole.paste(one, (0, top))
        top += one.height
    return whole


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr, where that is a terminal; what it gives is called after each step."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)


def download(argv: list[str]) -> int:
    """Lists what there is, or fetches a data set's files."""
    from ladic.datamodules.downloads import DOWNLOADS

    parser = LineParser(
        "ladic data download", description="Fetches published data; without a name, lists what there is."
    )
    parser.add_argument("name", nargs="?", help=", ".join(DOWNLOADS))
    parser.add_argument("--output", type=Path, help="folder to write into (default data/NAME)")
    parser.add_argument("--only", action="append", metavar="FILE", help="only this file; may be given again")
    parser.add_argument(
        "--mirror", action="append", default=[], metavar="URL", help="folder with the same files, tried first"
    )
    parser.add_argument("--unpack", action="store_true", help="unpack archives that came whole")
    options = parser.parse_args(argv)
    if options.name is None:
        for name, data in DOWNLOADS.items():
            print(f"{name}: {data.title}")
            print("\n".join(f"  {_known(file)}" for file in data.files))
            print(f"  by hand: {data.by_hand}")
        return 0
    if options.name not in DOWNLOADS:
        raise unknown("data set", options.name, DOWNLOADS)
    data = DOWNLOADS[options.name]
    names = [file.name for file in data.files]
    for wanted in options.only or []:
        if wanted not in names:
            raise unknown("file", wanted, names)
    folder = options.output or Path("data") / options.name
    files = [file for file in data.files if not options.only or file.name in options.only]
    _check_room(folder, files)
    for file in files:
        _fetch(file, folder, options.mirror)
        if options.unpack and file.name.endswith(".zip"):
            unpack(folder / file.name)
    print(f"then: {data.by_hand}")
    return 0


def _known(file: Any) -> str:
    size = (
        "size unknown"
        if file.bytes is None
        else f"{file.bytes / 1e9:.2f} GB"
        if file.bytes > 1e9
        else f"{file.bytes / 1e6:.0f} MB"
    )
    return f"{file.name}  {size}  {file.note}\n    {file.url}\n    sha256 {file.sha256 or 'not published'}"


def _check_room(folder: Path, files: list[Any]) -> None:
    """Refuses to begin what the disk can't hold."""
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    wanted = 0
    for file in files:
        part = folder / f"{file.name}.part"
        if not (folder / file.name).exists():
            wanted += max(0, (file.bytes or 0) - (part.stat().st_size if part.exists() else 0))
    free = shutil.disk_usage(there).free
    if wanted > free:
        raise UsageError(
            f"--output {folder}: {wanted / 1e9:.1f} GB are to come and {free / 1e9:.1f} GB are free; give a folder on "
            "another disk, or --only FILE"
        )


def _fetch(file: Any, folder: Path, mirrors: list[str]) -> None:
    """One file, unless it is there already."""
    from ladic.download import fetch, sha256_of

    target = folder / file.name
    if target.is_file():
        if file.sha256 is not None and sha256_of(target) != file.sha256:
            raise UsageError(f"'{target}': its SHA-256 is not {file.sha256}; remove the file to fetch it again")
        print(f"{target}: there already{'' if file.sha256 else ' (no sum is published to check it by)'}")
        return
    urls = [*(f"{mirror.rstrip('/')}/{file.name}" for mirror in mirrors), file.url]
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(file.name, total=file.bytes)
        found = fetch(
            urls, target, file.bytes, file.sha256, lambda have, size: bar.update(task, completed=have, total=size)
        )
    print(f"{target}: {'right by its sum' if file.sha256 else f'sha256 {found} (none is published)'}", flush=True)


def unpack(archive: Path) -> None:
    """Unpacks a zip beside itself.

    Raises:
        UsageError: if it is damaged, or a name in it leads out of the folder.
    """
    folder = archive.parent.resolve()
    try:
        with zipfile.ZipFile(archive) as opened:
            outside = [name for name in opened.namelist() if not (folder / name).resolve().is_relative_to(folder)]
            if outside:
                raise UsageError(f"'{archive}': '{outside[0]}' in it leaves the folder; it is not unpacked")
            opened.extractall(folder)
    except zipfile.BadZipFile as error:
        raise UsageError(f"'{archive}': not a whole zip ({error}); remove it and fetch it again") from error
    print(f"unpacked {archive}")
