"""Image encoders: pictures to tokens."""

from ladic.components.image_encoders.base import ImageEncoder
from ladic.components.image_encoders.blip import BlipEncoder
from ladic.components.image_encoders.conv import ConvEncoder
from ladic.components.image_encoders.hf_vision import HFVisionEncoder
from ladic.components.image_encoders.timm import TimmEncoder

__all__ = ["BlipEncoder", "ConvEncoder", "HFVisionEncoder", "ImageEncoder", "TimmEncoder"]
