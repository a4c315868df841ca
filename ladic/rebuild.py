"""A captioner from what its checkpoint says of it: components by their specs, sizes from the parts around them."""

from __future__ import annotations

import importlib
import inspect
import warnings
from typing import Any, Protocol, TypeVar

from ladic.components.denoisers import Denoiser
from ladic.components.image_encoders import ImageEncoder
from ladic.components.latent_spaces import TextLatentSpace
from ladic.components.noise_schedules import NoiseSchedule
from ladic.components.samplers import Sampler
from ladic.errors import UsageError
from ladic.frozen import told
from ladic.guidance import ClassifierFreeGuidance
from ladic.postprocess import PostProcessor
from ladic.rerank import CandidateSelector
from ladic.rounding import Rounding
from ladic.spec import build
from ladic.time_sampling import TimeSampling

COMPONENTS: dict[str, type] = {
    "image_encoder": ImageEncoder,
    "latent_space": TextLatentSpace,
    "noise_schedule": NoiseSchedule,
    "sampler": Sampler,
    "selector": CandidateSelector,
    "postprocess": PostProcessor,
    "rounding": Rounding,
    "time_sampling": TimeSampling,
}


class Loading(Protocol):
    """What a captioner does with a checkpoint."""

    @classmethod
    def arguments(cls, stored: dict[str, Any]) -> dict[str, Any]: ...

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


T = TypeVar("T", bound=Loading)


def rebuilt(cls: type[T], checkpoint: dict[str, Any], named: str, overrides: dict[str, Any]) -> T:
    """The captioner that a checkpoint's contents describe, with its weights.

    Args:
        cls: the captioner's class, or a base of it.
        checkpoint: as ``read_checkpoint`` or ``ladic.hub.read_folder`` gives it.
        named: what complaints call it.
        overrides: constructor arguments to use instead of the stored ones.

    Raises:
        UsageError: if frozen weights that it leaves out aren't where they were, or it doesn't fit.
    """
    stored = checkpoint["ladic"]
    cls = stored_class(stored.get("captioner", DIFFUSION), cls, named)
    parts: dict[str, Any] = {}
    for name, spec in stored["components"].items():
        if name not in overrides:
            left_out = stored.get("frozen", {}).get(name, {"source": {}})
            try:
                parts[name] = build(spec, COMPONENTS[name], overrides=left_out["source"])
            except UsageError as error:
                if not left_out["source"]:
                    raise
                raise UsageError(
                    f"{named}: leaves out the frozen weights of {name} ({told(left_out)}): {error}; put them back "
                    "there, or train with --model.save_frozen=true"
                ) from error
    if "denoiser" in stored:
        parts |= {
            "denoiser": _Rebuild(stored["denoiser"]),
            "guidance": ClassifierFreeGuidance(**stored["guidance"]),
        }
    model = cls(**{**parts, **cls.arguments(stored), **overrides})
    model.on_load_checkpoint(checkpoint)
    model.load_state_dict(checkpoint["state_dict"])
    return model


DIFFUSION = "ladic.captioner.LatentDiffusionCaptioner"
"""The captioner of files that don't say which: there was no other."""


def stored_class(path: Any, cls: type[T], named: str) -> type[T]:
    """The class that a checkpoint names, where it is ``cls`` or derived from it; ``cls`` where that is derived from it.

    A class of a script or a function, which no import finds, is taken for ``cls`` with a warning, if that can be built.

    Args:
        path: import path in the checkpoint, a stranger's file.
        cls: what was asked for.
        named: what complaints call the checkpoint.

    Raises:
        UsageError: if it is another one, or can't be imported.
    """
    if not isinstance(path, str):
        raise UsageError(f"{named}: its captioner is {path!r}, not the import path of a class; save the model again")
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        if not inspect.isabstract(cls) and (module == "__main__" or "<locals>" in path):
            message = f"{named}: its captioner '{path}' was made in a script; read as {cls.__name__}"
            warnings.warn(message, stacklevel=2)
            return cls
        raise UsageError(f"{named}: '{path}' can't be imported ({error}); install the package that has it") from error
    if isinstance(found, type) and issubclass(found, cls):
        return found
    if isinstance(found, type) and issubclass(cls, found):
        return cls
    raise UsageError(f"{named}: holds a captioner of the class {name}; this is for {cls.__name__}")


class _Rebuild:
    """A ``DenoiserFactory`` from a stored spec; the sizes come from the parts around it, as at first."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec

    def __call__(self, *, width: int, length: int, cond_width: int) -> Denoiser:
        sizes = {"width": width, "length": length, "cond_width": cond_width}
        return build(self.spec, Denoiser, overrides=sizes)
