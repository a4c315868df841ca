"""Our post-processing: said twice, spaces, capitals and the full stop."""

from __future__ import annotations

import re
from typing import Literal, get_args

from ladic.errors import UsageError
from ladic.postprocess.base import PostProcessor

Casing = Literal["keep", "sentence", "lower"]
Ending = Literal["keep", "stop", "none"]


class CleanCaption(PostProcessor):
    """Mends one caption by itself: runs of words said twice in a row, word spacing, casing and the end.

    Args:
        repeats: longest run of words that isn't said twice in a row: with 2 "a cat a cat cat" becomes "a cat"; 0 leaves
            all. Numbers and doubled pairs of the language ("had had") are lost too.
        casing: "sentence" capitalises the first letter of every sentence, "lower" lowers everything, "keep" neither.
        ending: "stop" ends with a full stop, "none" without one, "keep" as it is.
        detokenize: closes the gap before punctuation and clitics ("man 's", "is n't", "dog ,").

    Example:
        >>> CleanCaption(casing="sentence", ending="stop").text("a man 's dog dog , runs")
        "A man's dog, runs."
    """

    def __init__(
        self, repeats: int = 1, casing: Casing = "keep", ending: Ending = "keep", detokenize: bool = True
    ) -> None:
        if repeats < 0:
            raise UsageError(f"repeats={repeats}: need 0 (leave all) or more words")
        for name, value, known in (("casing", casing, get_args(Casing)), ("ending", ending, get_args(Ending))):
            if value not in known:
                raise UsageError(f"{name}='{value}': accepted are {', '.join(known)}")
        self.repeats, self.detokenize = repeats, detokenize
        self.casing: Casing = casing
        self.ending: Ending = ending

    def text(self, caption: str) -> str:
        words = caption.split()
        for run in range(1, self.repeats + 1):
            words = said_once(words, run)
        text = " ".join(words)
        if self.detokenize:
            text = closed_up(text)
        if self.casing == "lower":
            text = text.lower()
        if self.casing == "sentence":
            text = re.sub(r"(^|[.!?]\s+)(\w)", lambda found: found.group(1) + found.group(2).upper(), text)
        if self.ending != "keep":
            text = re.sub(r"[\s.]+$", "", text)
            if self.ending == "stop" and text and text[-1] not in "!?":
                text += "."
        return text


def said_once(words: list[str], run: int) -> list[str]:
    """Words without any ``run`` of them that the same words stand right before.

    Example:
        >>> said_once("a cat a cat a cat sits".split(), 2)
        ['a', 'cat', 'sits']
    """
    kept: list[str] = []
    for word in words:
        kept.append(word)
        if len(kept) >= 2 * run and kept[-run:] == kept[-2 * run : -run]:
            del kept[-run:]
    return kept


def closed_up(text: str) -> str:
    """Text without the spaces that tokenisers leave before punctuation and clitics.

    Example:
        >>> closed_up("it is n't the man ' s , is it ?")
        "it isn't the man's, is it?"
    """
    text = re.sub(r"\s+([,.;:!?%)\]])", r"\1", text)
    text = re.sub(r"([(\[])\s+", r"\1", text)
    text = re.sub(r"\s+n\s?['\u2019]\s?t\b", "n't", text)
    return re.sub(r"(\w)\s+['\u2019]\s?(s|m|d|t|re|ve|ll)\b", r"\1'\2", text)
