"""Captions with blanks: "a ___ holding a ___ in her hand".

Three or more underscores are a blank of any length; ``___{2}`` is one of two words.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Any

from ladic.errors import UsageError
from ladic.json_files import whole_characters

BLANK = re.compile(r"_{3,}(?:\{(\w*)\})?")
MOST_WAYS = 1_000_000
"""Of giving lengths to blanks; all are looked at before some are chosen."""


@dataclass(frozen=True)
class Layout:
    """A template with a number of tokens for each blank, laid out over the L positions of a latent space.

    Attributes:
        ids: token ids; 0 at blanks.
        mask: 1 up to [SEP].
        known: False at blanks.
        begins: True where a blank's token must begin a word.
        blanks: positions of each blank, in order.
    """

    ids: list[int]
    mask: list[int]
    known: list[bool]
    begins: list[bool]
    blanks: list[range]


@dataclass(frozen=True)
class Template:
    """A caption with blanks.

    Attributes:
        text: as typed.
        given: the texts around blanks, one more than there are blanks; "" at an end that is a blank.
        words: for each blank its number of words, None where it is free.
    """

    text: str
    given: tuple[str, ...]
    words: tuple[int | None, ...]

    @classmethod
    def parse(cls, text: str) -> Template:
        """The template of a text.

        Raises:
            UsageError: if it has no blank, or a number of words that isn't one.

        Example:
            >>> Template.parse("a ___ on ___{2}").given, Template.parse("a ___ on ___{2}").words
            (('a ', ' on ', ''), (None, 2))
        """
        found = list(BLANK.finditer(text))
        if not found:
            raise UsageError(f"'{text}': no blank in it; write ___ for a blank, ___{{2}} for one of two words")
        words: list[int | None] = []
        for blank in found:
            count = blank.group(1)
            if count is not None and (not count.isdecimal() or len(count) > 4 or not int(count)):
                raise UsageError(f"'{text}': '{blank.group()}' is no blank; write ___{{2}} for one of two words")
            words.append(None if count is None else int(count))
        edges = [0, *itertools.chain.from_iterable(blank.span() for blank in found), len(text)]
        given = tuple(text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True))
        return cls(text, given, tuple(words))

    def tokens(self, tokenizer: Any) -> list[list[int]]:
        """Token ids of each given text.

        Raises:
            UsageError: naming a word that the tokenizer doesn't know.
        """
        pieces = []
        for text in map(whole_characters, self.given):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            if tokenizer.unk_token_id in ids:
                unknown = (
                    word
                    for word in text.split()
                    if tokenizer.unk_token_id in tokenizer(word, add_special_tokens=False)["input_ids"]
                )
                wrong = next(unknown, text.strip())
                raise UsageError(f"'{self.text}': the text model doesn't know '{wrong}'; write it in other words")
            pieces.append(ids)
        return pieces

    def layouts(self, tokenizer: Any, length: int, longest: int = 4, most: int = 16) -> list[Layout]:
        """Every way to give free blanks 1 to ``longest`` tokens, shorter ones first, ``most`` at the most.

        Args:
            tokenizer: of the latent space.
            length: L.
            longest: tokens of a free blank.
            most: layouts.

        Raises:
            UsageError: if the given words and the shortest blanks don't fit.
        """
        pieces = self.tokens(tokenizer)
        fixed = sum(map(len, pieces))
        room = length - 2 - fixed
        least = sum(count or 1 for count in self.words)
        if least > room:
            raise UsageError(
                f"'{self.text}': {fixed} tokens are given and the blanks take {least} or more; "
                f"the model's length of {length} holds {length - 2}"
            )
        if longest ** self.words.count(None) > MOST_WAYS:
            raise UsageError(
                f"'{self.text}': more than {MOST_WAYS:,} ways to give {self.words.count(None)} blanks their lengths; "
                "write ___{2} for one of two words where you know"
            )
        choices = [range(1, longest + 1) if count is None else (count,) for count in self.words]
        sizes = sorted((size for size in itertools.product(*choices) if sum(size) <= room), key=lambda s: (sum(s), s))
        if len(sizes) > most:  # spread over short and long ones
            sizes = [sizes[round(i * (len(sizes) - 1) / (most - 1))] for i in range(most)] if most > 1 else sizes[:1]
        return [self._layout(pieces, size, tokenizer, length) for size in sizes]

    def _layout(self, pieces: list[list[int]], sizes: tuple[int, ...], tokenizer: Any, length: int) -> Layout:
        ids, known, begins, blanks = [tokenizer.cls_token_id], [True], [False], []
        for index, piece in enumerate(pieces):
            ids += piece
            known += [True] * len(piece)
            begins += [False] * len(piece)
            if index < len(sizes):
                blanks.append(range(len(ids), len(ids) + sizes[index]))
                ids += [0] * sizes[index]
                known += [False] * sizes[index]
                counted = self.words[index] is not None
                begins += [True] + [counted] * (sizes[index] - 1)
        ids.append(tokenizer.sep_token_id)
        mask = [1] * len(ids)
        rest = length - len(ids)
        ids += [tokenizer.pad_token_id] * rest
        return Layout(ids, mask + [0] * rest, known + [True] * (rest + 1), begins + [False] * (rest + 1), blanks)

    def filled(self, fills: list[str]) -> str:
        """The caption with the blanks filled; given texts stay as typed.

        Example:
            >>> Template.parse("A ___ runs.").filled(["brown dog"])
            'A brown dog runs.'
        """
        parts = [self.given[0]]
        for fill, text in zip(fills, self.given[1:], strict=True):
            parts += [fill, text]
        return "".join(parts)
