"""Pictures in the logger: captions beside their pictures, a caption being made, and the noise schedule."""

from __future__ import annotations

import textwrap
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from ladic.errors import UsageError
from ladic.types import CaptionBatch, CaptionOutput

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image


class SampleLogger(Callback):
    """Draws for every logger of the run, at each validation and on rank 0.

    - ``samples``: the first pictures of the split with what the model says of them and what people said;
    - ``trace``: the first picture's caption at every step (not where weights are sharded: one rank can't sample alone);
    - ``schedule``: once, signal and log SNR over time, with the times that the sampler visits.

    The last two are of a latent diffusion alone; of another captioner only the samples are drawn. Where the split's
    pictures can't be had (shards of a stream, cached tokens without pictures), the schedule is all.

    ``ladic fit`` adds this where a logger is named that shows pictures. In a CSV logger's folder they are PNG files.

    Args:
        num_samples: pictures to show.
        trace: whether to sample one caption more for the trace.
    """

    def __init__(self, num_samples: int = 4, trace: bool = True) -> None:
        if num_samples < 1:
            raise UsageError(f"SampleLogger.num_samples={num_samples}: need at least 1")
        self.num_samples, self.trace = num_samples, trace
        self._rows: list[tuple[int | str, str, str]] = []
        self._told = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and trainer.loggers and hasattr(pl_module, "noise_schedule"):
            figure = schedule_figure(pl_module.noise_schedule, pl_module.sampler)
            self._log(trainer, "schedule", as_image(figure))

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._rows = []

    def on_validation_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: LightningModule, outputs: CaptionOutput, batch: CaptionBatch, *_: Any
    ) -> None:
        if not trainer.is_global_zero or trainer.sanity_checking or len(self._rows) >= self.num_samples:
            return
        references = [texts[0] if texts else "" for texts in batch["references"]]
        rows = zip(outputs["image_id"], outputs["captions"], references, strict=True)
        self._rows += list(rows)[: self.num_samples - len(self._rows)]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._rows or not trainer.loggers or not (pictures := self._pictures(trainer)):
            return
        self._log(trainer, "samples", as_image(sample_figure(pictures, self._rows)))
        if (
            self.trace
            and hasattr(pl_module, "trace")
            and isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy)
        ):
            self._log(trainer, "trace", traced(pl_module, pictures[0]))

    def _pictures(self, trainer: Trainer) -> list[Image.Image]:
        """Those of the rows; none, and a warning the first time, where the data can't give them."""
        try:
            source = trainer.datamodule.split("val")  # type: ignore[attr-defined]
            places = {source.image_id(index): index for index in range(len(source))}
            return [source.image(places[image_id]) for image_id, _, _ in self._rows]
        except UsageError as error:  # validation itself went well without pictures: no reason to end the run
            if not self._told:
                warnings.warn(f"SampleLogger: no samples are drawn: {error}", stacklevel=2)
            self._told = True
            return []

    def _log(self, trainer: Trainer, name: str, image: Image.Image) -> None:
        for logger in trainer.loggers:
            log_image(logger, name, image, trainer.global_step)


def log_image(logger: Logger, name: str, image: Image.Image, step: int) -> None:
    """A picture into a logger; those that take none are left alone."""
    if isinstance(logger, TensorBoardLogger):
        import numpy as np

        logger.experiment.add_image(name, np.asarray(image), step, dataformats="HWC")
    elif isinstance(logger, WandbLogger):
        logger.log_image(name, [image], step)
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_image(logger.run_id, image, artifact_file=f"{name}/{step:08d}.png")
    elif isinstance(logger, CSVLogger):
        file = Path(logger.log_dir) / "pictures" / f"{name}-{step:08d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        image.save(file)


def sample_figure(pictures: list[Image.Image], rows: list[tuple[int | str, str, str]]) -> Figure:
    """Pictures in a row; below each the caption, and a reference in grey."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.6 * len(pictures), 3.4), layout="constrained")
    for axes, picture, (image_id, caption, reference) in zip(
        figure.subplots(1, len(pictures), squeeze=False)[0], pictures, rows, strict=True
    ):
        axes.imshow(picture, aspect="equal")
        axes.set(xticks=[], yticks=[])
        axes.set_title(str(image_id)[-24:], fontsize=7, color="0.45")
        axes.set_xlabel(_wrapped(caption or "(empty)", 34, 4), fontsize=9)
        axes.text(
            0.5,
            -0.42,
            _wrapped(reference, 42, 3),
            transform=axes.transAxes,
            ha="center",
            va="top",
            fontsize=7,
            color="0.45",
        )
    return figure


def schedule_figure(schedule: Any, sampler: Any) -> Figure:
    """Signal and noise (left) and log SNR (right) over time, with the sampler's times."""
    import torch
    from matplotlib.figure import Figure

    t = torch.linspace(0, 1, 201)
    visited = sampler.times(schedule)
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    shares, snr = figure.subplots(1, 2)
    shares.plot(t, schedule.alpha_bar(t).sqrt(), label="signal")
    shares.plot(t, schedule.sigma(t), label="noise")
    shares.legend(fontsize=8)
    inner = t[1:-1]
    snr.plot(inner, schedule.log_snr(inner), label="log SNR")
    asked = visited[(visited > 0) & (visited < 1)]
    snr.plot(asked, schedule.log_snr(asked), ".", label=f"{len(visited) - 1} steps of {type(sampler).__name__}")
    snr.legend(fontsize=8)
    for axes, title in ((shares, type(schedule).__name__), (snr, "log SNR")):
        axes.set(title=title, xlabel="t")
        axes.grid(alpha=0.3)
    return figure


def traced(model: Any, picture: Image.Image) -> Image.Image:
    """A caption at every step of its making."""
    import io

    from PIL import Image

    from ladic.trace_pictures import trace_png

    training = model.training
    model.eval()
    try:
        return Image.open(io.BytesIO(trace_png(model.trace(picture)[0]))).convert("RGB")
    finally:
        model.train(training)


def as_image(figure: Figure) -> Image.Image:
    """A figure as a picture."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _wrapped(text: str, width: int, lines: int) -> str:
    """Text in short lines; what is beyond the last is left out."""
    return "\n".join(textwrap.wrap(text, width, max_lines=lines, placeholder=" …"))
