"""``ladic cache-features``: runs a frozen image encoder once over a datamodule's pictures and keeps the tokens."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ladic.cli.parser import LineParser
from ladic.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from ladic.components import ImageEncoder
    from ladic.datamodules import CaptionDataModule, CaptionSource
    from ladic.features import FeatureWriter

WAIT = 300
"""Seconds that other processes wait for the first to begin."""


def main(argv: list[str]) -> None:
    """Writes the cache; the same command after an interruption goes on where it stopped."""
    options = parse_options(argv)

    from ladic.cli.device import on_device
    from ladic.cli.lightning_cli import model_part, parse, spec_of
    from ladic.components import ImageEncoder
    from ladic.datamodules import CaptionDataModule, FolderDataModule
    from ladic.features import FeatureWriter, begin_cache, fingerprint, images_hash
    from ladic.spec import build

    config = parse(["-c", options.config, *options.overrides])
    datamodule = build(spec_of(config.data), CaptionDataModule)
    encoder = build(model_part(config, "image_encoder"), ImageEncoder)
    if not encoder.frozen:
        raise UsageError("model.image_encoder: it is trained (frozen=False), so its tokens can't be cached")
    if (options.views > 1) != (datamodule.augment != "none"):
        raise UsageError(
            f"--views {options.views} with data.augment='{datamodule.augment}': further views are augmented ones, so "
            "give both (--views 4 … -- --data.augment=crop-flip) or none"
        )
    sources = {split: datamodule.split(split) for split in options.splits}  # what is wrong with one is told first
    manifest = {
        **fingerprint(encoder, encoder.preprocess),
        **{"num_tokens": encoder.num_tokens, "width": encoder.width},
        **{"format": options.format, "views": options.views, "augment": datamodule.augment},
    }
    ids = {split: [source.image_id(index) for index in range(len(source))] for split, source in sources.items()}
    if options.rank:
        await_rank_zero(options.output, manifest, {split: images_hash(own) for split, own in ids.items()}, options)
    manifest = begin_cache(options.output, manifest, options.overwrite)
    writers = {
        split: FeatureWriter(options.output, split, own, manifest, options.file_megabytes, options.overwrite)
        for split, own in ids.items()
    }
    encoder = on_device(encoder, options.device)
    unfinished = []
    for split, source in sources.items():
        skip = split == "train" or isinstance(datamodule, FolderDataModule)
        job = CachingJob(source, encoder, datamodule, writers[split], options, skip)
        if not job.run():
            unfinished.append(split)
    if unfinished:
        print(f"{', '.join(unfinished)}: other processes still write files; the last one to end completes the cache")
    else:
        print(f"wrote {options.output}; train with --data.features={options.output}")


def parse_options(argv: list[str]) -> Any:
    """The options, checked."""
    parser = LineParser("ladic cache-features", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-c", "--config", required=True, help="configuration with the encoder and the datamodule")
    parser.add_argument("--output", required=True, type=Path, help="folder to write")
    parser.add_argument("--splits", default="train,val", help="splits, comma-separated (default %(default)s)")
    parser.add_argument(
        "--format",
        choices=["fp16", "bf16", "int8"],
        default="fp16",
        help="of numbers: int8 has a scale for each channel of each picture (default %(default)s)",
    )
    parser.add_argument(
        "--views", type=int, default=1, help="views of each picture: the plain one and others made by data.augment"
    )
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--num-workers", type=int, default=0, help="processes that load pictures")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, …")
    parser.add_argument("--file-megabytes", type=float, default=64, help="size of a file: a kill loses at most one")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="remove what is there of the splits (of all, where something else made the cache) and begin anew, also "
        "where a run was stopped: leave it out to go on; for one process alone",
    )
    rank, world = of_job()
    parser.add_argument("--rank", type=int, default=rank, help="which of the processes this is (default: of the job)")
    parser.add_argument("--world-size", type=int, default=world, help="processes that share the work")
    parser.add_argument("overrides", nargs="*", help="flags for the configuration, after --")
    options = parser.parse_args(argv)
    options.splits = options.splits.split(",")
    if not set(options.splits) <= {"train", "val", "test"}:
        raise UsageError(f"--splits {','.join(options.splits)}: accepted are train, val and test")
    for name in ("views", "batch_size", "world_size"):
        if getattr(options, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} {getattr(options, name)}: need at least 1")
    if not 0 <= options.rank < options.world_size:
        raise UsageError(
            f"--rank {options.rank}: with --world-size {options.world_size}, 0 to {options.world_size - 1}"
        )
    if options.overwrite and options.world_size > 1:
        raise UsageError(
            f"--overwrite: not with {options.world_size} processes, which would remove each other's files; remove "
            f"'{options.output}' first and leave --overwrite out"
        )
    if options.num_workers < 0 or not options.file_megabytes > 0:
        raise UsageError(f"--num-workers {options.num_workers}, --file-megabytes {options.file_megabytes:g}: too small")
    return options


def of_job() -> tuple[int, int]:
    """Rank and number of processes that torchrun or srun gave; (0, 1) alone.

    A batch script, of which there is one, has its job's SLURM_NTASKS too; SLURM_STEP_NUM_TASKS is srun's.
    """
    for rank, world in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")):
        if os.environ.get(rank, "").isdigit() and os.environ.get(world, "").isdigit():
            return int(os.environ[rank]), int(os.environ[world])
    return 0, 1


def await_rank_zero(folder: Path, manifest: dict[str, Any], images: dict[str, str], options: Any) -> None:
    """Waits until the first process has written manifest and indices, since it may have a cache to remove first.

    Raises:
        UsageError: if that doesn't come about.
    """
    from ladic.features.writer import FORMAT, read_index, read_manifest

    deadline = time.monotonic() + WAIT
    while True:
        indices = {split: read_index(folder, split) for split in images}
        begun = {split: index["images"] for split, index in indices.items() if index is not None}
        if read_manifest(folder) == {"version": FORMAT, **manifest} and begun == images:
            return
        if time.monotonic() > deadline:
            raise UsageError(
                f"--rank {options.rank}: the process of rank 0 has not begun this cache in '{folder}' within {WAIT} s; "
                "do all processes see the same folder, and is rank 0 alive?"
            )
        time.sleep(0.2)


class CachingJob:
    """This process's share of a split.

    Args:
        source: the pictures.
        encoder: makes the tokens.
        datamodule: says how views are made and what share of the training pictures may be broken.
        writer: where tokens go.
        options: of the command line.
        skip: whether broken pictures may be left out.
    """

    def __init__(
        self,
        source: CaptionSource,
        encoder: ImageEncoder,
        datamodule: CaptionDataModule,
        writer: FeatureWriter,
        options: Any,
        skip: bool,
    ) -> None:
        self.source, self.encoder, self.writer, self.options = source, encoder, writer, options
        self.views = Views(source, encoder.preprocess, datamodule.augment, options.views)
        self.share = datamodule.skip_broken if skip else 0.0

    def run(self) -> bool:
        """Writes the files that are this process's; True if the split is then complete."""
        from rich.console import Console
        from rich.progress import track

        split, count = self.writer.split, len(self.source)
        missing = self.writer.missing()
        # By number, not by place among what is missing: processes look at different moments.
        mine = [number for number in missing if number % self.options.world_size == self.options.rank]
        bar = Console(stderr=True)
        title = f"{split}: {count} images"
        for number, tokens, broken in track(
            self._files(mine), title, len(mine), console=bar, disable=not (mine and bar.is_terminal)
        ):
            self.writer.write(number, tokens, broken)
        if not missing and self.writer.complete:
            print(f"{split}: {count} images are there already")
            return True
        if not self.writer.finish(self._encode_row):
            return False
        self._tell()
        return True

    def _files(self, numbers: list[int]) -> Iterator[tuple[int, Tensor, dict[int, str]]]:
        """Number, tokens (rows, views, N, C) and broken rows of each file."""
        import torch
        from torch.utils.data import DataLoader

        size, views = self.options.batch_size, cast(Any, self.views)
        # Batches end with their file: then a picture is encoded beside the same others however often a run stopped.
        batches = [
            list(rows[start : start + size])
            for rows in map(self.writer.range, numbers)
            for start in range(0, len(rows), size)
        ]
        loaded = iter(DataLoader(views, batch_sampler=batches, num_workers=self.options.num_workers, collate_fn=list))
        gone = 0
        for number in numbers:
            parts: list[Tensor] = []
            broken: dict[int, str] = {}
            while sum(map(len, parts)) < len(self.writer.range(number)):
                items = next(loaded)
                broken |= {row: picture for row, picture in items if isinstance(picture, str)}
                empty = torch.zeros(self.options.views, 3, *[self.encoder.preprocess.size] * 2)
                images = torch.stack([empty if isinstance(picture, str) else picture for _, picture in items])
                parts.append(self._encode(images))
            gone += len(broken)
            if gone > self.share * len(self.source):
                first = next(iter(broken.values()))
                raise UsageError(
                    f"data.skip_broken={self.share:g}: {gone} or more of {len(self.source)} pictures of "
                    f"{self.writer.split} are broken: {first}; mend them, or allow a larger share of training pictures"
                )
            yield number, torch.cat(parts), broken

    def _encode(self, images: Tensor) -> Tensor:
        """Tokens (B, V, N, C) of views (B, V, 3, H, W)."""
        import torch

        device = next(self.encoder.parameters()).device
        with torch.inference_mode():
            # View by view, so that the plain one is encoded in the same batch whatever comes beside it.
            return torch.stack([self.encoder(view.to(device)).float().cpu() for view in images.unbind(1)], dim=1)

    def _encode_row(self, row: int) -> Tensor:
        """Tokens (N, C) of a picture's plain view."""
        _, views = self.views[row]
        if isinstance(views, str):
            raise UsageError(f"{views}; it was whole when it was cached")
        return self._encode(views[None, :1])[0, 0]

    def _tell(self) -> None:
        from ladic.features import FeatureCache

        cache = FeatureCache(self.options.output, self.writer.split)
        size = sum(file.stat().st_size for file in self.options.output.glob(f"{self.writer.split}-*.npy"))
        print(
            f"{self.writer.split}: {len(self.source)} images, {cache.views} x {self.encoder.num_tokens} tokens of "
            f"{self.encoder.width} in {self.options.format}, {size / 2**20:.1f} MiB; relative error at most "
            f"{cache.error:.2g}"
        )
        if cache.broken:
            print(f"{self.writer.split}: {len(cache.broken)} broken pictures are left out:")
            print("\n".join(f"  {reason}" for reason in cache.broken.values()))


class Views:
    """Pictures with their views (V, 3, H, W) by row, or what is wrong with them; a data set for loaders."""

    def __init__(self, source: CaptionSource, preprocess: Any, augment: Any, count: int) -> None:
        self.source, self.preprocess, self.augment, self.count = source, preprocess, augment, count

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, row: int) -> tuple[int, Tensor | str]:
        import torch

        from ladic.datamodules.images import BrokenImageError
        from ladic.datamodules.transforms import augmented, tells_sides, to_tensor

        try:
            image = self.source.image(row)
        except BrokenImageError as error:
            return row, str(error)
        flip = self.count > 1 and not tells_sides(self.source.captions(row))
        # Of the picture's name, so that its views don't hang on which others are cached.
        name = hashlib.blake2b(repr(self.source.image_id(row)).encode("utf-8", "surrogatepass"), digest_size=6)
        seeds = [int(name.hexdigest(), 16) + view for view in range(1, self.count)]
        views = [augmented(image, self.preprocess, self.augment, seed, flip) for seed in seeds]
        return row, torch.stack([to_tensor(image, self.preprocess), *views])
