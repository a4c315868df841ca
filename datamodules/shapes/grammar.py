"""Captions to statements: the upper half of a recursive-descent parser of the captions' language.

    caption   = sentence ("." sentence)*
    sentence  = item (separator item)*            separator = "," | "and" | ", and" | "with"
    item      = [lead-in] (background | total | subject)
    lead-in   = "an image of" | "an image with" | "the image shows"
    total     = ["there is"] number "objects" ["on" background]
    subject   = [region [","]] ["there is"] phrase ["is" predicate ("and" predicate)*]
    predicate = size | colour | texture | modifier

Tolerant: a word that fits nowhere is set aside as unparsed and reading goes on after it.
"""

from __future__ import annotations

import re

from ladic.datamodules.shapes.phrases import ADJECTIVES, BACKGROUNDS, COUNTS, PhraseReader, Reading

_LEAD_INS = [phrase.split() for phrase in ("an image of", "an image with", "the image shows")]


def read(caption: str) -> Reading:
    """Read a caption.

    >>> [statement.text for statement in read("a red circle left of a star").statements]
    ['circle', 'red circle', 'star', 'red circle left of star']
    >>> read("a red red circle").unparsed
    ['red']
    """
    return _CaptionReader(re.findall(r"[a-z]+|[^\sa-z]", caption.lower())).run()


class _CaptionReader(PhraseReader):
    def run(self) -> Reading:
        while self.at < len(self.words):
            self._sentence()
        return self.reading

    def _sentence(self) -> None:
        self.fresh = True
        start, joined = self.at, True  # joined: by a separator, or as the first
        while self.at < len(self.words) and self.peek() != ".":
            item_start = self.at
            if self._item():
                if not joined:
                    self.reading.unparsed.append(self.words[item_start])
                joined = self._separator()
            else:
                self.at = item_start + 1
                self.reading.unparsed.append(self.words[item_start])
        if joined and self.at > start and self.words[self.at - 1] in (",", "and", "with"):
            self.reading.unparsed.append(self.words[self.at - 1])  # a separator with nothing after it
        if self.take(".") and self.at == start + 1:
            self.reading.unparsed.append(".")

    def _separator(self) -> bool:
        return self.take(",", "and") or self.take(",") or self.take("and") or self.take("with")

    def _item(self) -> bool:
        self.used = set()
        if any(self.take(*phrase) for phrase in _LEAD_INS):
            return self.background() or self._total("") or self._subject(None, "image")
        if self._background_clause() or self.background():
            return True
        region = self.region()
        if region:
            self.take(",")
        verb = self._verb(inverted=region is not None)
        return (region is None and self._total(verb)) or self._subject(region, verb)

    def _verb(self, inverted: bool) -> str:
        """ "there is", or "is" alone where a region stands before it."""
        for verb in ("is", "are"):
            if self.take("there", verb) or (inverted and self.take(verb)):
                return verb
        return ""

    def _background_clause(self) -> bool:
        start, said = self.at, 0
        if self.take("the", "background", "is"):
            while self.peek() in BACKGROUNDS:
                word = self.peek()
                self.at += 1
                said += 1
                self.say(f"{word} background", BACKGROUNDS[word][0], word)
                if self.peek(1) not in BACKGROUNDS or not self.take("and"):
                    break
        if not said:
            self.at = start
        return said > 0

    def _total(self, verb: str) -> bool:
        """How many objects there are in all, exactly."""
        number, noun = self.peek(), self.peek(1)
        if number not in COUNTS or noun != ("object" if number == "one" else "objects"):
            return False
        if verb and (verb == "is") != (number == "one"):
            self.reading.unparsed.append(verb)
        self.at += 2
        self.say(f"{number} {noun}", "count", number)
        self.on_background()
        return True

    def _subject(self, region: str | None, verb: str) -> bool:
        known, definite = len(self.reading.things), self.peek() in ("the", "it")
        group = self.phrase()
        if group is None:
            return False
        single = len(group) == 1
        if region:
            self.lie(group, region)
        elif not verb and self._predicates(group):
            return True
        # "there are" may open a list of single things; "there is" can't be followed by two.
        listed = self.peek() in (",", "and") or self.peek(1) == "and"
        if (verb == "is" and not single) or (verb == "are" and single and not (listed and not region)):
            self.reading.unparsed.append(verb)
        if definite and not region and group[0] < known:
            self.reading.unparsed.append(self.words[self.at - 1])  # named again, and nothing said of it
        return True

    def _predicates(self, group: tuple[int, ...]) -> bool:
        start = self.at
        if self.take("is" if len(group) == 1 else "are") and self._predicate(group):
            while self.on_background() or self.both(self._predicate, group):
                pass
            return True
        self.at = start
        return False

    def _predicate(self, group: tuple[int, ...]) -> bool:
        word = self.peek()
        if word not in ADJECTIVES:
            return self.modifier(group)
        self.at += 1
        for thing in group:
            self.describe(thing, word)
        return True
