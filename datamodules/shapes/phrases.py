"""Noun phrases and what hangs on them: the lower half of the parser, and what it writes down.

    phrase    = noun modifier ("and" modifier)*
    noun      = (article | number) (size | colour | texture)* shape | "it"
    modifier  = region | relation phrase | "on" background

Indefinite noun phrases bring up a new thing each. "the red circle" and "it" go back to a thing already brought up; a
"the" with nothing to go back to brings up a new one, a "the" that could mean two is not understood.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ladic.datamodules.shapes.lexicon import (
    CLUTTER_WORDS,
    NUMBERS,
    PLURALS,
    REGION_WORDS,
    RELATION_WORDS,
    SIZE_WORDS,
    article,
)
from ladic.datamodules.shapes.scene import COLOURS, SHAPES, TEXTURES, TINTS

COUNTS = {word: number for number, word in enumerate(NUMBERS, 1)}
ADJECTIVES = {
    **{word: ("colour", word) for word in COLOURS},
    **{word: ("texture", word) for word in TEXTURES},
    **{word: ("size", size) for size, words in SIZE_WORDS.items() for word in words},
}
BACKGROUNDS = {**{tint: ("tint", tint) for tint in TINTS}, **{w: ("clutter", w) for w in CLUTTER_WORDS.values()}}
_NOUNS = {**{shape: (shape, False) for shape in SHAPES}, **{PLURALS[shape]: (shape, True) for shape in SHAPES}}
_REGIONS = [(phrase.split(), region) for region, phrase in REGION_WORDS.items()]
_RELATIONS = [(phrase.split(), name) for name, phrases in RELATION_WORDS.items() for phrase in phrases]


@dataclass(frozen=True)
class Statement:
    """One thing said.

    Attributes:
        text: roughly the words it was said in.
        kind: ``attribute``, ``region`` or ``relation`` of things; ``count``, ``tint`` or ``clutter`` of the picture.
        things: numbers of the things it is about: one, or two for a relation.
        name: which attribute.
        value: what is said.
    """

    text: str
    kind: str
    things: tuple[int, ...] = ()
    name: str = ""
    value: str = ""


@dataclass
class Reading:
    """What a caption says: the attributes given to each thing, every statement in order, and the words left over."""

    things: list[dict[str, str]] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    unparsed: list[str] = field(default_factory=list)


class PhraseReader:
    """A cursor over the words that reads phrases; ``None`` or ``False`` means not there, and nothing consumed."""

    def __init__(self, words: list[str]) -> None:
        self.words, self.at = words, 0
        self.reading = Reading()
        self.focus: int | None = None  # what "it" is: the first thing of the latest sentence that names one
        self.earlier: int | None = None  # the focus before that
        self.fresh = True  # whether this sentence has yet to set the focus
        self.used: set[int] = set()  # the subjects of the item being read: what they are related to is something else

    def peek(self, ahead: int = 0) -> str:
        index = self.at + ahead
        return self.words[index] if index < len(self.words) else ""

    def take(self, *phrase: str) -> bool:
        if tuple(self.words[self.at : self.at + len(phrase)]) != phrase:
            return False
        self.at += len(phrase)
        return True

    def say(self, text: str, kind: str, value: str, things: tuple[int, ...] = (), name: str = "") -> None:
        """Note a statement; one made before is a repetition, which is no good English."""
        statement = Statement(text, kind, things, name, value)
        key = (kind, things, name, value)
        if any(key == (old.kind, old.things, old.name, old.value) for old in self.reading.statements):
            self.reading.unparsed.append(text.split()[0])
        else:
            self.reading.statements.append(statement)

    def phrase(self) -> tuple[int, ...] | None:
        """A noun phrase with its modifiers: the things it is about."""
        group = self.noun()
        if group is None:
            return None
        if self.modifier(group):
            while self.modifier(group) or self.both(self.modifier, group):
                pass
        return group

    def noun(self) -> tuple[int, ...] | None:
        if self.peek() == "it" and self.focus is not None:
            # Nothing is beside itself: in "a star is above it", it is what the sentence before was about.
            thing = self.earlier if self.focus in self.used and self.earlier is not None else self.focus
            self.at += 1
            if self.fresh:
                self.earlier, self.fresh = self.focus, False
            self.used.add(thing)
            return (thing,)
        wrong: list[str] = []
        determiner = self.peek() if self.peek() in ("a", "an", "the", *COUNTS) else ""
        at = self.at + bool(determiner)
        said: dict[str, str] = {}
        while at < len(self.words) and self.words[at] in ADJECTIVES:
            name, value = ADJECTIVES[self.words[at]]
            if name in said:
                wrong.append(self.words[at])
            said.setdefault(name, value)
            at += 1
        if at >= len(self.words) or self.words[at] not in _NOUNS:
            return None
        shape, plural = _NOUNS[self.words[at]]
        count = COUNTS.get(determiner, 1)
        if plural != (count > 1):
            wrong.append(self.words[at])
        if determiner in ("a", "an", "") and determiner != article(self.words[self.at + bool(determiner)]):
            wrong.append(self.words[self.at])
        self.at = at + 1
        self.reading.unparsed.extend(wrong)
        group = self._refer({"shape": shape, **said}, count, definite=determiner == "the")
        if self.fresh:
            self.earlier, self.fresh = self.focus, False
            self.focus = group[0] if len(group) == 1 else None
        self.used.update(group)
        return group

    def modifier(self, group: tuple[int, ...]) -> bool:
        return self._place(group) or self._relate(group) or self.on_background()

    def region(self) -> str | None:
        return next((region for phrase, region in _REGIONS if self.take(*phrase)), None)

    def lie(self, group: tuple[int, ...], region: str) -> None:
        for thing in group:
            self.say(f"{self._call(thing)} {REGION_WORDS[region]}", "region", region, (thing,))

    def describe(self, thing: int, word: str) -> None:
        name, value = ADJECTIVES[word]
        self.say(f"{word} {self._call(thing)}", "attribute", value, (thing,), name)
        self.reading.things[thing].setdefault(name, value)

    def on_background(self) -> bool:
        start = self.at
        if self.take("on") and self.background():
            return True
        self.at = start
        return False

    def background(self) -> bool:
        """A noun phrase like "a cluttered grey background"."""
        end = self.at + 1
        while end < len(self.words) and self.words[end] in BACKGROUNDS:
            end += 1
        words = self.words[self.at + 1 : end]
        kinds = {BACKGROUNDS[word][0] for word in words}
        if self.peek() not in ("a", "the") or not words or len(kinds) < len(words):
            return False
        if self.words[end : end + 1] != ["background"]:
            return False
        self.at = end + 1
        for word in words:
            self.say(f"{word} background", BACKGROUNDS[word][0], word)
        return True

    def _place(self, group: tuple[int, ...]) -> bool:
        start, region = self.at, self.region()
        after = self.peek()
        # "... and on the left a star": the region belongs to what follows.
        if region and self.words[start - 1] == "and" and (after in ("a", "an", "the", "there", "is", *COUNTS)):
            self.at = start
            return False
        if region:
            self.lie(group, region)
        return region is not None

    def _relate(self, group: tuple[int, ...]) -> bool:
        start = self.at
        for phrase, relation in _RELATIONS:
            if self.take(*phrase):
                subjects = set(self.used)
                others = self.phrase()
                self.used = subjects
                if others is None:
                    self.at = start
                    return False
                for thing in group:
                    for other in others:
                        text = f"{self._call(thing)} {' '.join(phrase)} {self._call(other)}"
                        self.say(text, "relation", relation, (thing, other))
                return True
        return False

    def both(self, read: Callable[[tuple[int, ...]], bool], group: tuple[int, ...]) -> bool:
        """ "and" with another of the same after it."""
        start = self.at
        if self.take("and") and read(group):
            return True
        self.at = start
        return False

    def _refer(self, said: dict[str, str], count: int, definite: bool) -> tuple[int, ...]:
        if definite:
            free = [(i, thing) for i, thing in enumerate(self.reading.things) if i not in self.used]
            fits = [i for i, thing in free if all(thing.get(name, value) == value for name, value in said.items())]
            known = [i for i in fits if said.items() <= self.reading.things[i].items()]
            found = known or fits
            if len(found) > 1:
                self.reading.unparsed.append("the")
            if found:
                for name in said.keys() - self.reading.things[found[-1]].keys():
                    self.describe(found[-1], said[name])
                return (found[-1],)
        group = tuple(range(len(self.reading.things), len(self.reading.things) + count))
        for thing in group:
            self.reading.things.append({"shape": said["shape"]})
            self.say(said["shape"], "attribute", said["shape"], (thing,), "shape")
            for name in ("colour", "size", "texture"):
                if name in said:
                    self.describe(thing, said[name])
        return group

    def _call(self, thing: int) -> str:
        attributes = self.reading.things[thing]
        return " ".join(filter(None, (attributes.get("colour"), attributes["shape"])))
