"""METEOR 1.5 (Denkowski and Lavie 2014) through its authors' jar: one Java process, kept alive.

Tables and paraphrases take the process seconds to load, so it stays for the next call. What is sent and read is the
jar's own ``-stdio`` protocol: a line ``SCORE ||| reference ||| ... ||| candidate`` gives a line of statistics, a line
``EVAL ||| statistics ||| ...`` gives a score per segment and then that of the corpus, which is not their mean.
"""

from __future__ import annotations

import atexit
import selectors
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ladic.metrics.functional.jars import Unavailable, c_locale, find_jar, find_java
from ladic.metrics.functional.ngrams import FloatArray, check_pairs


@dataclass(frozen=True)
class MeteorResult:
    """``corpus`` and ``per_image`` (I,), in [0, 1]."""

    corpus: float
    per_image: FloatArray


def meteor(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    package: str | Path | None = None,
    timeout: float = 600.0,
) -> MeteorResult:
    """METEOR of tokenised captions.

    Args:
        candidates: one tokenised caption per image (I).
        references: for each image its tokenised references, at least one.
        package: folder of pycocoevalcap, the importable one if None.
        timeout: seconds after which the Java process is given up.

    Raises:
        Unavailable: without Java or the jar, or when the process dies or takes too long.
        ValueError: when the two have different lengths or an image has no reference.
    """
    check_pairs(candidates, references)
    if not candidates:
        return MeteorResult(0.0, np.empty(0))
    return _process(package).score(candidates, references, timeout)


@lru_cache(maxsize=1)
def _process(package: str | Path | None) -> _Meteor:
    return _Meteor(find_java(), find_jar("meteor", "meteor-1.5.jar", package=package))


class _Meteor:
    def __init__(self, java: str, jar: Path) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 -- lives as long as the process
        self.lock = threading.Lock()
        command = [java, "-Xmx2G", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, env=c_locale(), bufsize=0,
            cwd=tempfile.gettempdir(),
        )  # fmt: skip
        self.unread = b""
        atexit.register(self.close)

    def score(self, candidates: Sequence[str], references: Sequence[Sequence[str]], timeout: float) -> MeteorResult:
        end = time.monotonic() + timeout
        with self.lock:
            try:
                asked = [
                    " ||| ".join(["SCORE", *map(_clean, refs), _clean(candidate)])
                    for candidate, refs in zip(candidates, references, strict=True)
                ]
                statistics = self._ask(asked, len(asked), end)
                scores = self._ask([" ||| ".join(["EVAL", *statistics])], len(asked) + 1, end)
                *per_image, corpus = [float(score) for score in scores]
            except (OSError, EOFError, TimeoutError, ValueError) as error:
                self.close()
                _process.cache_clear()
                self.errors.seek(0)
                said = self.errors.read().decode(errors="replace").strip().splitlines()
                raise Unavailable(
                    f"METEOR's Java process failed: {error} {said[-1] if said else ''}".strip()
                ) from error
        return MeteorResult(corpus, np.array(per_image, np.float64))

    def _ask(self, lines: list[str], answers: int, end: float) -> list[str]:
        """Write lines and read so many; written beside the reading, because either pipe may be full."""
        data = "".join(line + "\n" for line in lines).encode()
        writer = threading.Thread(target=self._write, args=(data,), daemon=True)
        writer.start()
        received: list[str] = []
        with selectors.DefaultSelector() as selector:
            assert self.process.stdout is not None
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while len(received) < answers:
                line, found, rest = self.unread.partition(b"\n")
                if found:
                    self.unread = rest
                    received.append(line.decode().strip())
                    continue
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise TimeoutError("no answer in time.")
                more = self.process.stdout.read(1 << 16)
                if not more:
                    raise EOFError("it ended.")
                self.unread += more
        writer.join()
        return received

    def _write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        view = memoryview(data)
        try:
            while view:
                view = view[self.process.stdin.write(view) or 0 :]
        except OSError:  # the reader sees the end of the process and says so
            pass

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def _clean(text: str) -> str:
    """Without what means something in the protocol."""
    return text.replace("|||", "").replace("\n", " ").replace("  ", " ")
