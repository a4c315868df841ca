"""Datamodules: captioned pictures as batches; importing this package registers every built-in class."""

if __name__ != "ladic.datamodules":
    raise ImportError("import ladic.datamodules, not datamodules: install the project with `pip install -e .`")

from ladic.datamodules.base import CaptionDataModule
from ladic.datamodules.coco import CocoDataModule
from ladic.datamodules.flickr import FlickrDataModule
from ladic.datamodules.folder import FolderDataModule
from ladic.datamodules.karpathy import KarpathyDataModule
from ladic.datamodules.shapes.datamodule import ShapesDataModule
from ladic.datamodules.source import CaptionSource
from ladic.datamodules.stanford_paragraph import StanfordParagraphDataModule
from ladic.datamodules.webdataset import WebDatasetDataModule

__all__ = [
    "CaptionDataModule",
    "CaptionSource",
    "CocoDataModule",
    "FlickrDataModule",
    "FolderDataModule",
    "KarpathyDataModule",
    "ShapesDataModule",
    "StanfordParagraphDataModule",
    "WebDatasetDataModule",
]
