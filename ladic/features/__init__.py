"""A cache of frozen image tokens on disk, so that training and evaluation needn't run the encoder.

    DIR/manifest.json            what made it: encoder, weights, preprocessing, shape, number format, views
    DIR/<split>.json             image ids in order and their hash, pictures that were broken, the measured error
    DIR/<split>-00000.npy        (rows, views, N, C) float16; bfloat16 as its 16 bits; or int8
    DIR/<split>-00000.scales.npy (rows, views, C) float16, with int8: what a channel's integers are multiplied by

Each file is written whole or not at all, by whichever process has its turn, so that a killed run goes on file by file
and ends with the same bytes, on any number of processes.
"""

from ladic.features.cache import FeatureCache
from ladic.features.codec import FORMATS, NumberFormat, decode, encode
from ladic.features.fingerprint import fingerprint
from ladic.features.writer import FeatureWriter, begin_cache, images_hash

__all__ = [
    "FORMATS",
    "FeatureCache",
    "FeatureWriter",
    "NumberFormat",
    "begin_cache",
    "decode",
    "encode",
    "fingerprint",
    "images_hash",
]
