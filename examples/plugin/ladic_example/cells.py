"""What one can say of a picture without learning: colours and directions of edges, cell by cell."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ladic.components import ImageEncoder
from ladic.errors import UsageError
from ladic.types import ImagePreprocess


class CellEncoder(ImageEncoder):
    """A token for each cell of a grid: mean and deviation of its colours, histogram of its edges, its place.

    The histogram adds up the gradient's size by its direction, unsigned, as in HOG (Dalal & Triggs 2005, section 6), in
    hard bins and without their block normalisation.

    Args:
        image_size: side of the picture in pixels; the cells divide it.
        cells: along a side.
        bins: directions of the histogram.
    """

    def __init__(self, image_size: int = 64, cells: int = 8, bins: int = 8) -> None:
        super().__init__()
        if cells < 1 or image_size % cells:
            raise UsageError(f"image_size={image_size}, cells={cells}: the cells have to divide the picture's side")
        if bins < 1:
            raise UsageError(f"bins={bins}: need at least 1")
        self.preprocess = ImagePreprocess(image_size, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear")
        self.cells, self.bins, self.side = cells, bins, image_size // cells
        self.width, self.num_tokens = 3 + 3 + bins + 2, cells**2
        self.freeze()

    def encode(self, images: Tensor) -> Tensor:
        """(B, N, C): mean (3), deviation (3), histogram (bins), row and column in [-1, 1] (2)."""
        mean = F.avg_pool2d(images, self.side)
        deviation = (F.avg_pool2d(images.square(), self.side) - mean.square()).clamp_min(0).sqrt()
        place = torch.linspace(-1, 1, self.cells, device=images.device, dtype=images.dtype)
        rows, columns = torch.meshgrid(place, place, indexing="ij")
        where = torch.stack([rows, columns]).expand(len(images), -1, -1, -1)
        found = torch.cat([mean, deviation, self.edges(images), where], dim=1)
        return found.flatten(2).transpose(1, 2)

    def edges(self, images: Tensor) -> Tensor:
        """(B, bins, cells, cells): mean gradient in each direction, of brightness."""
        grey = F.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
        across = grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]
        down = grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]
        angle = torch.atan2(down, across) % math.pi
        chosen = (angle * (self.bins / math.pi)).long().clamp_max(self.bins - 1)
        size = torch.hypot(across, down)
        directions = torch.arange(self.bins, device=images.device).view(1, -1, 1, 1)
        return F.avg_pool2d(size * (chosen == directions), self.side)
