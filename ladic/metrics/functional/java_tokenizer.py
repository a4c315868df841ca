"""COCO's Java tokenizer itself, Stanford's PTBTokenizer 3.4.1 from pycocoevalcap, to check ``ptb_tokenizer`` by."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ladic.metrics.functional.jars import Unavailable, c_locale, find_jar, find_java
from ladic.metrics.functional.ptb_tokenizer import PUNCTUATION

# Each would begin a line for the tool and shift the captions after it by one.
_LINE_BREAKING = re.compile("[\n\r\x0b\x0c\x85\u2028\u2029]")


def java_tokenize_all(
    captions: Sequence[str], *, package: str | Path | None = None, timeout: float = 600.0
) -> list[str]:
    """Tokenised captions, as COCO's evaluation makes them; see ``ptb_tokenize`` for what a result looks like.

    Args:
        captions: in the order in which COCO's evaluation would hand them over: a caption that ends in a single letter
            and a stop has its tokens decided by the next one.
        package: folder of pycocoevalcap, the importable one if None.
        timeout: seconds after which the Java process is given up.

    Raises:
        Unavailable: without Java or the jar, or when the process fails or takes too long.
    """
    if not captions:
        return []
    jar = find_jar("tokenizer", "stanford-corenlp-3.4.1.jar", package=package)
    with tempfile.TemporaryDirectory(prefix="ladic-tokenizer-") as folder:
        path = Path(folder, "captions.txt")
        path.write_text("\n".join(_LINE_BREAKING.sub(" ", caption) for caption in captions), encoding="utf-8")
        command = [find_java(), "-Dfile.encoding=UTF-8", "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer"]
        command += ["-preserveLines", "-lowerCase", str(path)]
        try:
            run = subprocess.run(command, env=c_locale(), capture_output=True, timeout=timeout, check=True)
        except (subprocess.SubprocessError, OSError) as error:
            raise Unavailable(f"the Java tokenizer failed: {error}") from error
    lines = run.stdout.decode("utf-8").split("\n")[: len(captions)]
    if len(lines) != len(captions):
        raise Unavailable(f"the Java tokenizer gave {len(lines)} lines for {len(captions)} captions")
    return [" ".join(w for w in line.rstrip().split(" ") if w not in PUNCTUATION) for line in lines]
