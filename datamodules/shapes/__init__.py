"""The embedded data set: an endless, checkable world of shapes."""

from ladic.datamodules.shapes.captions import paragraph, references
from ladic.datamodules.shapes.datamodule import ShapesDataModule
from ladic.datamodules.shapes.draw import draw
from ladic.datamodules.shapes.lexicon import VOCABULARY
from ladic.datamodules.shapes.scene import Scene, SceneObject, random_scene
from ladic.datamodules.shapes.source import ShapesSource
from ladic.datamodules.shapes.truth import Claim, Truth, check

__all__ = [
    "VOCABULARY",
    "Claim",
    "Scene",
    "SceneObject",
    "ShapesDataModule",
    "ShapesSource",
    "Truth",
    "check",
    "draw",
    "paragraph",
    "random_scene",
    "references",
]
