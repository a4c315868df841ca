"""Replays inputs that fuzzing found (tests/fuzz/fuzz.py), and some bytes of no meaning, without the fuzzer."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))

from targets import TARGETS

FOUND: dict[str, list[bytes]] = {
    "json": [b"A\xe5\x1c\xe5\x1c\x1c\x1d\x1c\x01\xe3\x00A\x1d"],  # an object for an image id
    "tokenizers": [b"\xff" + "\udc80 half a character \ud83d".encode("utf-16-le", "surrogatepass")],
    "template": [
        b"\xff" + b"___{" + b"9" * 5000 + b"}",  # more digits than Python makes a number of
        b"\xff" + b"___ " * 10,  # so many ways to fill it that they were never all looked at
        b"\xff" + b"a ___ \x80",
    ],
}
"""What once raised something else than a UsageError."""


@pytest.mark.parametrize("name", TARGETS)
def test_bytes_of_no_meaning(name):
    chance = random.Random(0)
    for size in (0, 1, 2, 7, 30, 200):
        for _ in range(20):
            TARGETS[name](chance.randbytes(size))
    for data in FOUND[name]:
        TARGETS[name](data)
