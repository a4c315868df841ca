"""What the page and the HTTP API both ask for: captions, fillings and traces of one picture, within limits."""

from __future__ import annotations

import copy
import io
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from ladic.captioner import LatentDiffusionCaptioner
from ladic.datamodules.images import as_rgb
from ladic.errors import UsageError
from ladic.inference import Caption, Infill
from ladic.trace import Trace

MOST_STEPS, MOST_CANDIDATES, MOST_GUIDANCE = 100, 32, 10.0
LONGEST_TEMPLATE = 500  # characters
MOST_PICTURES = 4  # in memory at a time; of 50 megapixels, each takes 150 MB and while it is decoded more

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Of pictures: a stranger's bytes reach no other decoder of Pillow's, some of which start programs."""


class TooLarge(UsageError):
    """A picture beyond the limits."""


@dataclass(frozen=True)
class Limits:
    """What a visitor may send.

    Attributes:
        megabytes: of a picture's file.
        megapixels: of the picture itself; a small file can hold a huge one.
    """

    megabytes: float = 10.0
    megapixels: float = 50.0

    @property
    def bytes(self) -> int:
        return int(self.megabytes * 2**20)


@dataclass(frozen=True)
class Settings:
    """How a caption is made; None takes the checkpoint's own.

    Raises:
        UsageError: for values beyond what a visitor may ask for.
    """

    num_steps: int | None = None
    guidance_scale: float | None = None
    num_candidates: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, least, most in (
            ("num_steps", 1, MOST_STEPS),
            ("num_candidates", 1, MOST_CANDIDATES),
            ("guidance_scale", 0, MOST_GUIDANCE),
            ("seed", 0, 2**63 - 1),
        ):
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise UsageError(f"{name}={value:g}: accepted are {least} to {most:g}")


class CaptionService:
    """One or two captioners, asked by many visitors; one picture is worked on at a time.

    Args:
        models: by the name that visitors see; the first answers where none is named.
        limits: of what is sent.
    """

    def __init__(self, models: Mapping[str, LatentDiffusionCaptioner], limits: Limits = Limits()) -> None:
        assert models
        self.models, self.limits = dict(models), limits
        self._turn = threading.Lock()
        self._room = threading.BoundedSemaphore(MOST_PICTURES)

    @contextmanager
    def opened(self, picture: bytes | Path) -> Iterator[Image.Image]:
        """A picture from its file, or the bytes of it, while it is worked on; others wait, undecoded, for room.

        Raises:
            TooLarge: if the file or the picture is.
            UsageError: if it is no picture.
        """
        with self._room:
            if isinstance(picture, Path):
                self._check_size(picture.stat().st_size)
                picture = picture.read_bytes()
            yield self.read(picture)

    def read(self, data: bytes) -> Image.Image:
        """A picture from the bytes of its file.

        Raises:
            TooLarge: if the file or the picture is.
            UsageError: if it is no picture.
        """
        self._check_size(len(data))
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > 1e6 * self.limits.megapixels:
                    raise TooLarge(
                        f"image: {image.width} x {image.height} pixels; accepted are {self.limits.megapixels:g} million"
                    )
                return as_rgb(image)
        except UnidentifiedImageError as error:
            raise UsageError(
                f"image: not a picture; accepted are {', '.join(FORMATS)}: send the bytes of a JPEG, PNG or WebP file"
            ) from error
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"image: broken ({error})") from error

    def _check_size(self, size: int) -> None:
        if size > self.limits.bytes:
            raise TooLarge(f"image: {size / 2**20:.1f} MiB; accepted are {self.limits.megabytes:g}")

    def caption(self, image: Image.Image, settings: Settings = Settings(), model: str | None = None) -> Caption:
        """The chosen caption, all candidates with their scores, and the network evaluations spent."""
        chosen = self._set(settings, model)
        with self._turn:
            return chosen.caption(image)[0]

    def infill(
        self, image: Image.Image, template: str, settings: Settings = Settings(), model: str | None = None
    ) -> Infill:
        """A template with blanks ("a ___ dog"), filled for the picture."""
        if len(template) > LONGEST_TEMPLATE:
            raise UsageError(f"template: {len(template)} characters; accepted are {LONGEST_TEMPLATE}")
        chosen = self._set(settings, model)
        with self._turn:
            return chosen.infill(image, template, num_candidates=settings.num_candidates or 1)[0]

    def trace(self, image: Image.Image, settings: Settings = Settings(), model: str | None = None) -> Trace:
        """What the caption was at every step of its making."""
        chosen = self._set(settings, model)
        with self._turn:
            return chosen.trace(image)[0]

    def defaults(self, model: str | None = None) -> dict[str, Any]:
        """Settings of a checkpoint, as its own."""
        chosen = self._named(model)
        return {
            "num_steps": chosen.sampler.num_steps,
            "guidance_scale": chosen.guidance.scale,
            "num_candidates": chosen.num_candidates,
            "seed": chosen.seed,
        }

    def _named(self, model: str | None) -> LatentDiffusionCaptioner:
        name = next(iter(self.models)) if model is None else model
        if name not in self.models:
            raise UsageError(f"model '{name}': there are {', '.join(self.models)}")
        return self.models[name]

    def _set(self, settings: Settings, model: str | None) -> LatentDiffusionCaptioner:
        """The captioner with other settings: a shallow copy, so that visitors don't change each other's."""
        chosen = copy.copy(self._named(model))
        if settings.num_steps is not None:
            chosen.sampler = chosen.sampler.with_steps(settings.num_steps)
        if settings.guidance_scale is not None:
            chosen.guidance = replace(chosen.guidance, scale=settings.guidance_scale)
        if settings.num_candidates is not None:
            chosen.num_candidates = settings.num_candidates
        if settings.seed is not None:
            chosen.seed = settings.seed
        return chosen
