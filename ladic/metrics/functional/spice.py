"""SPICE 1.0 (Anderson et al. 2016) through its authors' jar.

The jar needs the models of Stanford CoreNLP 3.6.0, 0.5 GB that pycocoevalcap downloads and its wheel lacks. They are
looked for beside the jar and never fetched from here.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ladic.metrics.functional.jars import Unavailable, c_locale, find_jar, find_java
from ladic.metrics.functional.mean import mean
from ladic.metrics.functional.ngrams import FloatArray, check_pairs


@dataclass(frozen=True)
class SpiceResult:
    """``corpus``: mean over images, in [0, 1]; ``per_image`` (I,) F-scores over all kinds of tuples."""

    corpus: float
    per_image: FloatArray


def spice(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    package: str | Path | None = None,
    timeout: float = 7200.0,
) -> SpiceResult:
    """SPICE of tokenised captions.

    Args:
        candidates: one tokenised caption per image (I).
        references: for each image its tokenised references, at least one.
        package: folder of pycocoevalcap, the importable one if None.
        timeout: seconds after which the Java process is given up.

    Raises:
        Unavailable: without Java, the jar or the models, or when the process fails or takes too long.
        ValueError: when the two have different lengths or an image has no reference.
    """
    check_pairs(candidates, references)
    java = find_java()
    jar = find_jar("spice", "spice-1.0.jar", package=package)
    for part in ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar"):
        if not (jar.parent / "lib" / part).is_file():
            raise Unavailable(f"SPICE needs {part} of Stanford CoreNLP 3.6.0 in {jar.parent / 'lib'}")
    with tempfile.TemporaryDirectory(prefix="ladic-spice-") as folder:
        rows = zip(candidates, references, strict=True)
        asked = [{"image_id": i, "test": text, "refs": list(refs)} for i, (text, refs) in enumerate(rows)]
        Path(folder, "in.json").write_text(json.dumps(asked))
        command = [java, "-Xmx8G", "-jar", str(jar), "in.json", "-out", "out.json", "-subset", "-silent"]
        try:
            subprocess.run(command, cwd=folder, env=c_locale(), capture_output=True, timeout=timeout, check=True)
            answered = json.loads(Path(folder, "out.json").read_text())
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace").strip().splitlines()
            raise Unavailable(f"SPICE's Java process failed: {said[-1] if said else error}") from error
        except (subprocess.TimeoutExpired, OSError, ValueError) as error:
            raise Unavailable(f"SPICE's Java process failed: {error}") from error
    per_image = np.zeros(len(candidates))
    for row in answered:
        score = row["scores"]["All"]["f"]  # null where neither side has a tuple
        per_image[row["image_id"]] = 0.0 if score is None else float(score)
    return SpiceResult(mean(per_image), per_image)
