"""Text latent spaces: captions to latents and back."""

from ladic.components.latent_spaces.analog_bits import AnalogBitsLatentSpace
from ladic.components.latent_spaces.base import TextLatentSpace
from ladic.components.latent_spaces.bert import BertLatentSpace
from ladic.components.latent_spaces.embedding import EmbeddingLatentSpace
from ladic.components.latent_spaces.normalizer import LatentNormalizer

__all__ = ["AnalogBitsLatentSpace", "BertLatentSpace", "EmbeddingLatentSpace", "LatentNormalizer", "TextLatentSpace"]
