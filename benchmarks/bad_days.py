"""``python -m benchmarks.bad_days [PROOF …]``: runs the long proofs and writes what came of them.

- ``slurm``: the batch scripts on a real SLURM of two nodes (root, slurm-wlm, munge);
- ``kills``: fifty ``kill -9`` in training, validation and the writing of checkpoints, more in caching;
- ``ranks``: sharded training, ranks and loading processes that die;
- ``json``, ``tokenizers``, ``template``: ten minutes of coverage-guided fuzzing each (`pip install 'ladic[fuzz]'`);
- ``large``: an annotation file of 1 GB.

A proof that isn't named keeps what the page says of it.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.pages import commit
from benchmarks.timing import machine

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "benchmarks" / "results" / "bad_days.md"
TESTS = {
    "slurm": (["tests/slurm"], {"LADIC_SLURM": "1"}),
    "kills": (["tests/test_kill.py"], {"LADIC_SLOW": "1"}),
    "ranks": (["tests/test_many_ranks.py"], {"LADIC_SLOW": "1"}),
}
FUZZED = ("json", "tokenizers", "template")
SECONDS = 600
"""Of fuzzing, for each target."""


def main() -> None:
    """Runs the proofs that are named, or all, and writes the page."""
    known = [*TESTS, *FUZZED, "large"]
    wanted = sys.argv[1:] or known
    if unknown := set(wanted) - set(known):
        sys.exit(f"no proof called {', '.join(unknown)}; there are {', '.join(known)}")
    for name in wanted:
        begun = time.monotonic()
        lines = tested(name) if name in TESTS else fuzzed(name) if name in FUZZED else large()
        told = f"{time.monotonic() - begun:.0f} s; {machine()}; commit {commit()}; {datetime.date.today().isoformat()}"
        lines = [f"## {name}", "", f"`python -m benchmarks.bad_days {name}`: {told}", "", *lines, ""]
        kept = {**sections(), name: "\n".join(lines)}
        head = "# Bad days\n\n`python -m benchmarks.bad_days`: proofs that are too long for every change.\n\n"
        PAGE.write_text(head + "\n".join(kept[one] for one in known if one in kept), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


def sections() -> dict[str, str]:
    """What the page says of each proof: one that isn't run again stays."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
    return {part.split("\n", 1)[0]: f"## {part}".rstrip() + "\n" for part in text.split("\n## ")[1:]}


def tested(name: str) -> list[str]:
    """A table with a row for each test."""
    files, variables = TESTS[name]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        words = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *files]
        subprocess.run(words, cwd=ROOT, env={**os.environ, **variables, "OMP_NUM_THREADS": "1"}, check=False)
        cases = ElementTree.parse(report).getroot().iter("testcase")
        return ["| test | outcome | seconds | |", "|---|---|---:|---|", *(_row(case) for case in cases)]


def _row(case: ElementTree.Element) -> str:
    bad = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
    outcome = "passed" if bad is None else bad.tag
    notes = [f"{one.get('name')}: {one.get('value')}" for one in case.iter("property")]
    sentence = (case.get("name") or "").removeprefix("test_").replace("_", " ")
    return f"| {sentence} | {outcome} | {float(case.get('time', 0)):.0f} | {'; '.join(notes)} |"


def fuzzed(target: str) -> list[str]:
    """What libFuzzer says at its end."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, str(ROOT / "tests" / "fuzz" / "fuzz.py"), target, f"-max_total_time={SECONDS}", folder]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    runs = re.findall(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
    covered = re.findall(r"cov: (\d+) ft: (\d+)", done.stderr)
    if done.returncode or not runs or not covered:
        return ["Found:", "", "```", *done.stderr.splitlines()[-40:], "```"]
    edges, features = covered[-1]
    return [f"Nothing found in {int(runs[-1]):,} runs over {SECONDS} s; {edges} edges and {features} features covered."]


def large() -> list[str]:
    """Reading an annotation file of 1 GB, in a process of its own for the memory it takes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "annotations.json")
        entries = _write_large(file)
        code = (
            "import sys; from pathlib import Path; from ladic.datamodules.readers.karpathy import read_karpathy; "
            "print(len(read_karpathy(Path(sys.argv[1]))))"
        )
        lines = []
        for limit, told in ((None, "as much memory as there is"), (12 * 2**30, "an address space of 12 GiB")):
            begun = time.monotonic()
            reader = subprocess.Popen(
                [sys.executable, "-c", code, str(file)],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                preexec_fn=None if limit is None else _limited(limit),
            )  # fmt: skip
            assert reader.stdout is not None
            answer = reader.stdout.read().strip().splitlines()[-1]
            _, status, usage = os.wait4(reader.pid, 0)  # this one's peak; RUSAGE_CHILDREN has the highest of all so far
            reader.returncode = os.waitstatus_to_exitcode(status)
            seconds, peak = time.monotonic() - begun, usage.ru_maxrss / 2**20
            lines.append(f"- {told}: {answer!r} after {seconds:.0f} s, at most {peak:.1f} GiB")
        return [f"{file.stat().st_size / 1e9:.2f} GB, {entries} pictures:", "", *lines]


def _limited(limit: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _write_large(file: Path) -> int:
    """Karpathy's JSON of about 1 GB; the number of pictures in it."""
    count = 0
    with file.open("w", encoding="utf-8") as out:
        out.write('{"images": [')
        while out.tell() < 10**9:
            sentences = [{"raw": f"A picture of the number {count} , seen {n} times .", "tokens": []} for n in range(5)]
            entry = {"filename": f"{count:012d}.jpg", "split": "train", "sentences": sentences, "cocoid": count}
            out.write(("," if count else "") + json.dumps(entry))
            count += 1
        out.write("]}")
    return count


if __name__ == "__main__":
    main()
