"""Coverage-guided fuzzing of what reads strangers' words, with atheris: tests/fuzz/fuzz.py TARGET -max_total_time=600

Whatever the bytes, a target answers with a result or a ``UsageError``. Anything else stops the fuzzer, which leaves the
input in a file ``crash-…``; once mended, it goes into tests/test_fuzz.py, which replays what was found.
Other words are libFuzzer's (``-runs=``, ``-seed=``, a folder of inputs to begin with).
Needs `pip install 'ladic[fuzz]'`.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["ladic"]):
    from targets import TARGETS


def main() -> None:
    """Hands over to libFuzzer, which ends the process."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: fuzz.py {'|'.join(TARGETS)} [libFuzzer option …]")
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup([sys.argv[0], "-print_final_stats=1", "-timeout=20", "-rss_limit_mb=4096", *sys.argv[1:]], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
