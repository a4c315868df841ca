"""What answers at once imports nothing heavy. Asserted on modules: clocks depend on who else uses the machine."""

import json
import subprocess
import sys

import pytest

HEAVY = {
    "torch", "torchvision", "lightning", "torchmetrics", "transformers", "timm", "open_clip", "jsonargparse",
    "numpy", "PIL", "matplotlib", "yaml", "rich", "ladic.components", "ladic.datamodules",
}  # fmt: skip

PROBE = """
import json, sys
from ladic.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print("\\n" + json.dumps(sorted(sys.modules)))
"""


@pytest.mark.parametrize(
    "line",
    ["--help", "--version", "components", "components samplers DDIMSampler", "components --json", "configs", "wrong"],
)
def test_nothing_heavy_is_imported(line, tmp_path):
    done = subprocess.run([sys.executable, "-c", PROBE, *line.split()], cwd=tmp_path, capture_output=True, text=True)
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    assert "ladic.cli.main" in modules
    assert modules & HEAVY == set()
