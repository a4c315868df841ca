"""The words of the captions: what they mean, and the whole vocabulary."""

from __future__ import annotations

from ladic.datamodules.shapes.scene import COLOURS, SHAPES, TEXTURES, TINTS

PLURALS = {shape: "crosses" if shape == "cross" else f"{shape}s" for shape in SHAPES}
SIZE_WORDS = {"small": ("small", "tiny"), "large": ("large", "big")}
CLUTTER_WORDS = {False: "plain", True: "cluttered"}
NUMBERS = ("one", "two", "three")
RELATION_WORDS = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "above": ("above",),
    "below": ("below", "under"),
}
REGION_WORDS = {
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
    "middle": "in the middle",
    "top left": "in the top left corner",
    "top right": "in the top right corner",
    "bottom left": "in the bottom left corner",
    "bottom right": "in the bottom right corner",
}

VOCABULARY = tuple(
    sorted(
        {
            *SHAPES,
            *PLURALS.values(),
            *COLOURS,
            *TEXTURES,
            *TINTS,
            *NUMBERS,
            *CLUTTER_WORDS.values(),
            *(word for words in SIZE_WORDS.values() for word in words),
            *(word for phrases in RELATION_WORDS.values() for phrase in phrases for word in phrase.split()),
            *(word for phrase in REGION_WORDS.values() for word in phrase.split()),
            *("a", "an", "the", "and", "with", "of", "on", "is", "are", "it", "there"),
            *("image", "shows", "object", "objects", "background", ",", "."),
        }
    )
)
"""Every token a caption can hold, commas and full stops included."""


def article(word: str) -> str:
    """``a`` or ``an``, as the following word asks for."""
    return "an" if word[0] in "aeiou" else "a"
