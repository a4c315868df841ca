"""What is fuzzed: a function of bytes for each kind of reader. It raises only where the project has a mistake."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ladic.datamodules.cleaning import CLEANINGS, clean
from ladic.datamodules.readers.blip import read_blip
from ladic.datamodules.readers.coco_json import read_coco
from ladic.datamodules.readers.karpathy import read_karpathy
from ladic.datamodules.readers.paragraphs import read_paragraphs
from ladic.datamodules.readers.split_list import read_splits
from ladic.datamodules.readers.token_file import read_token_file
from ladic.errors import UsageError
from ladic.metrics.caption_files import read_captions, read_ids, read_references
from ladic.metrics.functional.ptb_tokenizer import ptb_tokenize
from ladic.template import BLANK, Template
from ladic.testing import tiny_text_space

KEYS = (
    "images", "annotations", "sentences", "raw", "filename", "filepath", "file_name", "split", "image_id", "id",
    "cocoid", "imgid", "caption", "captions", "paragraph", "image", "url", "references", "tokens",
)  # fmt: skip
WORDS = (
    "train",
    "val",
    "test",
    "restval",
    "a.jpg",
    "../a.jpg",
    "/a.jpg",
    "COCO_val2014_000000000042.jpg",
    "A dog .",
    "",
)
READERS: tuple[Callable[[Path], Any], ...] = (
    read_karpathy,
    read_coco,
    partial(read_blip, split="train", numbered=True),
    read_paragraphs,
    partial(read_splits, numbered=True),
    read_token_file,
    read_captions,
    read_references,
    read_ids,
)
LONGEST = 2000
"""Characters of a message; no file may be quoted whole."""

FILE = Path(tempfile.gettempdir()) / f"ladic-fuzz-{os.getpid()}.json"
SPACE = tiny_text_space()


def json_readers(data: bytes) -> None:
    """Bytes as a file, and as a recipe for JSON with our keys in unusual places."""
    recipe = Recipe(data[1:])
    text = json.dumps(recipe.value(0)).encode() if data[:1] > b"\x40" else data[1:]
    FILE.write_bytes(text)
    for read in READERS:
        try:
            read(FILE)
        except UsageError as error:
            if len(str(error)) > LONGEST:
                raise AssertionError(f"a message of {len(str(error))} characters") from error


def tokenizers(data: bytes) -> None:
    """Any text, lone surrogates too, through cleaning, the metrics' tokenizer and the model's."""
    if data[:1] > b"\x80":
        text = data[1 : 1 + (len(data) - 1) // 2 * 2].decode(
            "utf-16-le", errors="surrogatepass" if data[:1] > b"\xc0" else "replace"
        )
    else:
        text = data[1:].decode("utf-8", errors="replace")
    assert isinstance(ptb_tokenize(text), str)
    for way in CLEANINGS:
        assert isinstance(clean(text, way), str)
    batch = SPACE.tokenize([text, clean(text)])
    assert batch.input_ids.shape == (2, SPACE.length)
    assert all(isinstance(caption, str) for caption in SPACE.to_text(batch.input_ids))


def template(data: bytes) -> None:
    """A caption with blanks, laid out over a latent space."""
    text = "".join(PIECES[byte % len(PIECES)] if byte < 200 else chr(byte * 7) for byte in data[1:61])
    text = data[1:].decode("utf-8", errors="surrogateescape") if data[:1] > b"\xc0" else text
    try:
        parsed = Template.parse(text)
        layouts = parsed.layouts(SPACE.tokenizer, SPACE.length)
    except UsageError:
        return
    assert parsed.filled([found.group() for found in BLANK.finditer(text)]) == text
    assert layouts
    for layout in layouts:
        sizes = {len(row) for row in (layout.ids, layout.mask, layout.known, layout.begins)}
        assert sizes == {SPACE.length}
        assert [place for blank in layout.blanks for place in blank] == [
            i for i, one in enumerate(layout.known) if not one
        ]
        assert all(count in (None, len(blank)) for count, blank in zip(parsed.words, layout.blanks, strict=True))


PIECES = (
    "___",
    "___{1}",
    "___{2}",
    "_",
    "{",
    "}",
    "{3",
    "0",
    "9",
    " ",
    "a",
    "red circle",
    "[MASK]",
    "[SEP]",
    "é",
    "\u0663",
)


class Recipe:
    """JSON values out of bytes: every byte string is one, so that a small change of it is a small change of the value.

    Args:
        data: the bytes; where they end, the value is filled up with null.
    """

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def byte(self) -> int:
        self.place += 1
        return self.data[self.place - 1] if self.place <= len(self.data) else 0

    def text(self) -> str:
        size = self.byte() % 12
        self.place += size
        return self.data[self.place - size : self.place].decode("utf-8", errors="replace")

    def value(self, depth: int) -> Any:
        kind = self.byte() % (10 if depth < 6 else 7)
        if kind < 7:
            choices = (None, True, self.byte(), -1e300, self.text, WORDS[self.byte() % len(WORDS)], 2**70)
            chosen = choices[kind]
            return chosen() if callable(chosen) else chosen
        size = self.byte() % 5
        if kind == 7:
            return [self.value(depth + 1) for _ in range(size)]
        if kind == 8:  # several of one kind: most files are lists of entries that are alike
            start = self.place
            values = []
            for _ in range(size):
                self.place = start
                values.append(self.value(depth + 1))
            return values
        return {self.key(): self.value(depth + 1) for _ in range(size)}

    def key(self) -> str:
        number = self.byte()
        return KEYS[number % len(KEYS)] if number < 230 else self.text()


TARGETS = {"json": json_readers, "tokenizers": tokenizers, "template": template}
