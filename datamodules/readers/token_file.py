"""Flickr's first captions (Hodosh et al. 2013, Young et al. 2014): ``Flickr8k.token.txt``, ``results_20130124.token``.

1000268201_693b08cb0e.jpg#0<TAB>A child in a pink dress is climbing up a set of stairs .
"""

from __future__ import annotations

import re
from pathlib import Path

from ladic.datamodules.readers.files import load_text, picture_file, short
from ladic.datamodules.records import Record
from ladic.errors import UsageError

LINE = re.compile(r"(?P<name>[^\t]+)#\d+\t(?P<caption>.*)")


def read_token_file(path: Path) -> list[Record]:
    """The pictures of the file in its order, each with all of its captions and without a split.

    Raises:
        UsageError: naming the file and the line that is none of its kind.
    """
    where = f"data.annotations='{path}'"
    captions: dict[str, list[str]] = {}
    for number, line in enumerate(load_text(path, "data.annotations", "Flickr's *.token").splitlines(), start=1):
        if not line.strip():
            continue
        found = LINE.fullmatch(line)
        if found is None:
            raise UsageError(f"{where}: line {number} is not 'NAME#NUMBER<TAB>CAPTION' but {short(line)}")
        captions.setdefault(picture_file(found["name"], where), []).append(found["caption"])
    if not captions:
        raise UsageError(f"{where}: the file has no captions")
    return [Record(name, name, tuple(own)) for name, own in captions.items()]
