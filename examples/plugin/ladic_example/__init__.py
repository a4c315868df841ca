"""Components for ladic from outside: importing this package registers them."""

from ladic_example.asymmetric import AsymmetricSampler
from ladic_example.cells import CellEncoder
from ladic_example.laplace import LaplaceSchedule

__all__ = ["AsymmetricSampler", "CellEncoder", "LaplaceSchedule"]
