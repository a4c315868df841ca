"""A captioner as graphs that run without this package: torch.export programs and ONNX files.

| graph | from | to |
| encoder | images (B, 3, H, W) | image_tokens (B, N, C) |
| context | image_tokens (B, N, C) | what the denoiser keeps of them, context_0, context_1, … |
| denoiser | x_t (B, L, D), t (B,), x0_prev (B, L, D), context_0, … | x0 (B, L, D) |
| decoder | x0 (B, L, D) | logits (B, L, V) |

The loop around them (noise, steps, guidance) is the user's: ``examples/onnx_caption.py`` is one in NumPy. What it needs
to know stands in ``export.json``. Every graph takes any batch size.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ladic.components.denoisers.base import Context, Denoiser
from ladic.components.image_encoders.base import ImageEncoder
from ladic.components.latent_spaces.base import TextLatentSpace
from ladic.components.noise_schedules.base import NoiseSchedule
from ladic.components.samplers.base import Sampler
from ladic.errors import UsageError
from ladic.guidance import ClassifierFreeGuidance
from ladic.json_files import write_json
from ladic.targets import Target
from ladic.types import ImagePreprocess

FORMATS = ("onnx", "pt2")
FACTS = "export.json"
TOLERANCE = 1e-3
"""Largest absolute difference between a graph and the model that is let pass; about 1e-5 is usual in float32."""

Run = Callable[[Sequence[Tensor]], list[Tensor]]


class Exportable(Protocol):
    """What is asked of a captioner that is exported."""

    image_encoder: ImageEncoder
    latent_space: TextLatentSpace
    denoiser: Denoiser
    noise_schedule: NoiseSchedule
    sampler: Sampler
    guidance: ClassifierFreeGuidance
    self_conditioning: float
    target: Target

    def null_tokens(self, like: Tensor) -> Tensor: ...

    @property
    def preprocess(self) -> ImagePreprocess: ...


@dataclass(frozen=True)
class Graph:
    """A part to export.

    Attributes:
        name: of the file.
        module: the computation.
        inputs, outputs: names.
        example: inputs of two rows.
    """

    name: str
    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    example: tuple[Tensor, ...]


@dataclass(frozen=True)
class Exported:
    """A file that was written, and the largest difference between its numbers and the model's."""

    file: Path
    difference: float


def export(model: Exportable, folder: str | Path, formats: Sequence[str] = FORMATS) -> list[Exported]:
    """Writes every graph in every format, runs it on batches of one and of three, and compares with the model.

    Args:
        model: the captioner, on the CPU.
        folder: made if it isn't there.
        formats: of "onnx" and "pt2".

    Raises:
        UsageError: for another format, where ONNX isn't installed, if a part can't be exported, or if a graph's numbers
            are not the model's.
    """
    for name in formats:
        if name not in FORMATS:
            raise UsageError(f"format '{name}': accepted are {', '.join(FORMATS)}")
    if "onnx" in formats:
        need_onnx()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FACTS).unlink(missing_ok=True)  # until all is there, the folder holds no export
    written = []
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters warn about their own deprecated insides
        for graph in graphs(model):
            written += [_export(graph, folder, name) for name in formats]
    write_facts(model, folder)
    return written


def graphs(model: Exportable) -> list[Graph]:
    """The four parts with examples of their inputs."""
    denoiser = _own(model.denoiser)
    encoder, space = _own(model.image_encoder), _own(model.latent_space)
    size = model.preprocess.size
    images = torch.randn(2, 3, size, size)
    tokens = encoder(images)
    context = denoiser.context(tokens).tensors
    kept = tuple(f"context_{number}" for number in range(len(context)))
    latent = torch.randn(2, denoiser.length, denoiser.width)
    step = (latent, torch.tensor([0.9, 0.2]), torch.randn_like(latent), *context)
    return [
        Graph("encoder", encoder, ("images",), ("image_tokens",), (images,)),
        Graph("context", _ContextOf(denoiser), ("image_tokens",), kept, (tokens,)),
        Graph("denoiser", _Step(model, denoiser), ("x_t", "t", "x0_prev", *kept), ("x0",), step),
        Graph("decoder", _Decode(space), ("x0",), ("logits",), (latent,)),
    ]


def write_facts(model: Exportable, folder: Path) -> None:
    """What the loop around the graphs has to know: ``tokenizer.json``, ``null_tokens.npy`` and last ``export.json``."""
    import numpy as np

    times = model.sampler.times(model.noise_schedule)
    preprocess = model.preprocess
    facts = {
        "image": {
            "size": preprocess.size,
            "mean": list(preprocess.mean),
            "std": list(preprocess.std),
            "interpolation": preprocess.interpolation,
            "resize": preprocess.resize,
            "crop_share": preprocess.crop_share,
        },
        "latent": {"length": model.denoiser.length, "width": model.denoiser.width},
        "sampler": type(model.sampler).__name__,
        "times": times.tolist(),
        "alpha_bar": model.noise_schedule.alpha_bar(times).tolist(),
        "guidance": vars(model.guidance),
        "self_conditioning": model.self_conditioning > 0,
        "vocabulary": model.latent_space.head.vocabulary.tolist(),
    }
    tokenizer = model.latent_space.tokenizer.backend_tokenizer.to_str()
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    encoder = model.image_encoder
    with torch.no_grad():
        null = model.null_tokens(torch.zeros(1, encoder.num_tokens, encoder.width))
    np.save(folder / "null_tokens.npy", null.detach().float().numpy())
    write_json(folder / FACTS, facts)


def need_onnx() -> None:
    """Raises a UsageError that says what to install, where that is missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UsageError(f"format onnx: {error}; run `pip install 'ladic[export]'`, or give --format pt2") from error


def _export(graph: Graph, folder: Path, format: str) -> Exported:
    """Writes a graph and checks it."""
    file = folder / f"{graph.name}.{format}"
    rows = torch.export.Dim("rows", min=1)
    shapes = tuple({0: rows} for _ in graph.example)
    takes_many = isinstance(graph.module, _Step)
    try:
        program = torch.export.export(
            graph.module, graph.example, dynamic_shapes=(*shapes[:3], shapes[3:]) if takes_many else shapes
        )
        if format == "pt2":
            torch.export.save(program, file)
            run = _run_program(file)
        else:
            names = {"input_names": list(graph.inputs), "output_names": list(graph.outputs)}
            torch.onnx.export(program, (), str(file), dynamo=True, verbose=False, external_data=False, **names)  # type: ignore[arg-type]
            run = _run_onnx(file, graph.inputs)
    except UsageError:
        raise
    except Exception as error:  # whatever a stranger's component does that a graph can't
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"{graph.name}: can't be exported to {format}: {reason}") from error
    difference = max(_difference(graph, run, rows) for rows in (1, 3))
    if not difference <= TOLERANCE:
        raise UsageError(f"{file}: its numbers differ from the model's by {difference:.1e}, more than {TOLERANCE:g}")
    return Exported(file, difference)


def _difference(graph: Graph, run: Run, rows: int) -> float:
    """Largest absolute difference on a batch of so many rows that the export has not seen."""
    generator = torch.Generator().manual_seed(rows)
    inputs = []
    for name, value in zip(graph.inputs, graph.example, strict=True):
        shape = (rows, *value.shape[1:])
        draw = torch.rand if name == "t" else torch.randn
        inputs.append(draw(shape, generator=generator))
    expected = graph.module(*inputs)
    expected = [expected] if isinstance(expected, Tensor) else list(expected)
    pairs = zip(expected, run(inputs), strict=True)
    return max(float((mine - theirs).abs().max()) for mine, theirs in pairs)


def _run_program(file: Path) -> Run:
    module = torch.export.load(file).module()

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        found = module(*inputs)
        return [found] if isinstance(found, Tensor) else list(found)

    return run


def _run_onnx(file: Path, names: Sequence[str]) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        fed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return [torch.from_numpy(found) for found in session.run(None, fed)]

    return run


def _own(module: Any) -> Any:
    """A copy in float32 on the CPU, in eval mode, whose parameters take no gradients."""
    return copy.deepcopy(module).float().cpu().requires_grad_(False).eval()


class _ContextOf(nn.Module):
    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, image_tokens: Tensor) -> tuple[Tensor, ...]:
        return self.denoiser.context(image_tokens).tensors


class _Step(nn.Module):
    """One evaluation: the time that the network is told, and what it is asked for made into the clean latent."""

    def __init__(self, model: Exportable, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser, self.target, self.ahead = denoiser, model.target, model.guidance.time_difference

    def forward(self, x_t: Tensor, t: Tensor, x0_prev: Tensor, *context: Tensor) -> Tensor:
        told = (t + self.ahead).clamp_max(1.0) if self.ahead else t
        return self.target.to_x0(self.denoiser(x_t, told, Context(context), x0_prev), x_t, t)


class _Decode(nn.Module):
    def __init__(self, space: TextLatentSpace) -> None:
        super().__init__()
        self.space = space

    def forward(self, x0: Tensor) -> Tensor:
        return self.space.decode(x0)
