"""Discovery of components, ours and strangers', through the entry-point group "ladic.components".

A component is registered by being an imported subclass of a kind's base class; ``load_plugins`` imports what the entry
points name. ``ladic.catalog`` lists the same classes without importing them.
"""

from __future__ import annotations

import difflib
import importlib
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from ladic.errors import UsageError

GROUP = "ladic.components"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kind:
    """A kind of component.

    Attributes:
        name: as typed after ``ladic components``; the folder's name.
        label: one of them, in words.
        base: where its base class is defined.
        flag: the command-line option that chooses one.
        given: constructor arguments that the model fills in, so that they are no flags.
    """

    name: str
    label: str
    base: str
    flag: str
    given: tuple[str, ...] = ()


KINDS = (
    Kind(
        "image_encoders", "image encoder", "ladic.components.image_encoders.base.ImageEncoder", "--model.image_encoder"
    ),
    Kind(
        "latent_spaces", "latent space", "ladic.components.latent_spaces.base.TextLatentSpace", "--model.latent_space"
    ),
    Kind(
        "denoisers",
        "denoiser",
        "ladic.components.denoisers.base.Denoiser",
        "--model.denoiser",
        given=("width", "length", "cond_width"),
    ),
    Kind(
        "noise_schedules",
        "noise schedule",
        "ladic.components.noise_schedules.base.NoiseSchedule",
        "--model.noise_schedule",
    ),
    Kind("samplers", "sampler", "ladic.components.samplers.base.Sampler", "--model.sampler"),
    Kind("selectors", "selector", "ladic.rerank.base.CandidateSelector", "--model.selector"),
    Kind("roundings", "rounding", "ladic.rounding.base.Rounding", "--model.rounding"),
    Kind("postprocessors", "postprocessor", "ladic.postprocess.base.PostProcessor", "--model.postprocess"),
    Kind("time_samplings", "time sampling", "ladic.time_sampling.TimeSampling", "--model.time_sampling"),
    Kind("captioners", "captioner", "ladic.captioner_base.Captioner", "--model"),
    Kind("datamodules", "datamodule", "ladic.datamodules.base.CaptionDataModule", "--data"),
)


def load_plugins() -> list[str]:
    """Imports every entry point of the group, so that its classes are registered.

    A stranger's plug-in that fails is named in one warning line and the rest goes on.

    Raises:
        UsageError: if our own modules aren't there; whatever else they raise goes through.

    Returns:
        Names of the entry points that were imported.
    """
    loaded = []
    for point in component_entry_points():
        try:
            importlib.import_module(point.module)
        except (Exception, SystemExit) as error:
            if is_ours(point):
                if isinstance(error, ModuleNotFoundError) and error.name == point.module:
                    raise unmapped(error) from error
                raise
            log.warning("plug-in '%s' (%s) is left out: %s", point.name, point.value, one_line(error, with_type=True))
        else:
            loaded.append(point.name)
    return loaded


def closest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that was probably meant, or None.

    >>> closest("TimEncoder", ["TimmEncoder", "ConvEncoder"])
    'TimmEncoder'
    >>> closest("ddim", ["RenoiseSampler", "DDIMSampler"])
    'DDIMSampler'
    >>> closest("zebra", ["RenoiseSampler", "DDIMSampler"]) is None
    True
    """
    lowered = {candidate.lower(): candidate for candidate in candidates}
    wanted = name.lower()
    if wanted in lowered:
        return lowered[wanted]
    starts = [candidate for candidate in lowered if wanted and candidate.startswith(wanted)]
    if len(starts) == 1:
        return lowered[starts[0]]
    similar = difflib.get_close_matches(wanted, lowered, n=1)
    return lowered[similar[0]] if similar else None


def unknown(what: str, name: str, candidates: Iterable[str]) -> UsageError:
    """The error for a name that nothing has: "did you mean" where something is near, the accepted names otherwise.

    >>> str(unknown("sampler", "DDMSampler", ["RenoiseSampler", "DDIMSampler"]))
    "no sampler called 'DDMSampler'; did you mean DDIMSampler?"
    >>> str(unknown("sampler", "zebra", ["RenoiseSampler", "DDIMSampler"]))
    "no sampler called 'zebra'; there are: DDIMSampler, RenoiseSampler"
    """
    accepted = sorted(candidates)
    near = closest(name, accepted)
    hint = f"did you mean {near}?" if near else f"there are: {', '.join(accepted) or 'none'}"
    return UsageError(f"no {what} called '{name}'; {hint}")


def one_line(error: BaseException, with_type: bool = False) -> str:
    """An exception's message in one line.

    A data loader's worker hands its exception on with the traceback inside the message; only the message stays.

    >>> one_line(ValueError("batch_size=0:\\n  need at least 1"))
    'batch_size=0: need at least 1'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].startswith("Caught ") and "Original Traceback" in str(error):
        lines = [re.sub(r"^[\w.]+: ", "", lines[-1])]
    message = " ".join(lines)
    return f"{type(error).__name__}: {message}" if with_type else message


def component_entry_points() -> list[EntryPoint]:
    """Ours first, then by name; one that two metadata folders describe is taken once."""
    points = {(point.name, point.value): point for point in entry_points(group=GROUP)}.values()
    return sorted(points, key=lambda point: (not is_ours(point), point.name))


def is_ours(point: EntryPoint) -> bool:
    return point.module.partition(".")[0] == "ladic"


def unmapped(error: BaseException) -> UsageError:
    """A checkout's ``ladic`` folder, imported because it stands in the working directory, has no components in it."""
    return UsageError(
        f"{one_line(error)} beside {Path(__file__).parent}: run `pip install -e .` in the checkout, "
        "or run `ladic` from another folder"
    )
