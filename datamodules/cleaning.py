"""What is done to captions before a model is trained on them, as in the literature.

=========  ================================================================  ==================================
name       what it does                                                      where it comes from
=========  ================================================================  ==================================
none       single spaces                                                     paragraphs: case and stops count
lower      lower case, single spaces, no stop at the end                     the default
blip       lower case; ``. ! " ( ) * # : ; ~`` become spaces                 BLIP (Li et al. 2022); its cut to 50 words
                                                                             is left out
ladic      as "blip", but full stops stay                                    LaDiC's released code
karpathy   lower case without any ASCII punctuation                          the "tokens" of Karpathy & Fei-Fei 2015
=========  ================================================================  ==================================

References that captions are scored against are never cleaned beyond single spaces: tokenising them is a part of the
metrics (the Penn Treebank tokenizer of COCO's evaluation), which differs from all of these.
"""

from __future__ import annotations

import string
from typing import Literal

Cleaning = Literal["none", "lower", "blip", "ladic", "karpathy"]
CLEANINGS = ("none", "lower", "blip", "ladic", "karpathy")

_TO_SPACES = str.maketrans(dict.fromkeys('.!"()*#:;~', " "))
_TO_SPACES_BUT_STOPS = str.maketrans(dict.fromkeys('!"()*#:;~', " "))
_AWAY = str.maketrans("", "", string.punctuation)


def clean(raw: str, cleaning: Cleaning = "lower") -> str:
    """A caption to train on; empty if nothing is left of it.

    Example:
        >>> raw = "A man's  T-shirt (red), and a dog ."
        >>> [clean(raw, how) for how in ("none", "lower")]
        ["A man's T-shirt (red), and a dog .", "a man's t-shirt (red), and a dog"]
        >>> [clean(raw, how) for how in ("blip", "ladic", "karpathy")]
        ["a man's t-shirt red , and a dog", "a man's t-shirt red , and a dog .", 'a mans tshirt red and a dog']
    """
    if cleaning == "none":
        return clean_reference(raw)
    if cleaning == "blip":
        return " ".join(raw.lower().translate(_TO_SPACES).split())
    if cleaning == "ladic":
        return " ".join(raw.lower().translate(_TO_SPACES_BUT_STOPS).split())
    if cleaning == "karpathy":
        return " ".join(raw.lower().translate(_AWAY).split())
    return clean_caption(raw)


def clean_caption(raw: str) -> str:
    """Lower case, single spaces, no punctuation at the end.

    Example:
        >>> clean_caption("A black dog  is running .")
        'a black dog is running'
    """
    return " ".join(raw.lower().split()).rstrip(" .")


def clean_reference(raw: str) -> str:
    """A reference on one line with single spaces, which no tokenizer tells from the raw one."""
    return " ".join(raw.split())
