"""``ladic doctor``: what this machine and this job are, before hours are spent on finding out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ladic.cli.parser import LineParser
from ladic.errors import UsageError

MARKS = {"ok": "ok  ", "note": "note", "bad": "BAD "}


def main(argv: list[str]) -> int:
    """Prints a line for each thing looked at; the exit code is 1 if one will stop a run."""
    parser = LineParser(prog="ladic doctor", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-c", "--config", action="append", default=[], help="a run to check disk and job against")
    parser.add_argument("--ranks", action="store_true", help="meet the other ranks: `srun ladic doctor --ranks`")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for a rank to answer (default 60)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("overrides", nargs="*", help="flags of `ladic fit`, after --")
    options = parser.parse_args(argv)
    if options.timeout <= 0:
        raise UsageError(f"--timeout {options.timeout:g}: seconds, more than 0")
    if options.overrides and not options.config:
        raise UsageError("flags after -- change a configuration: give one with -c FILE")
    findings = _ranks(options) if options.ranks else _machine(options)
    if options.json:
        print(json.dumps([finding._asdict() for finding in findings], indent=2))
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            print(f"{MARKS[finding.verdict]}  {finding.name:{width}}  {finding.text}")
    sys.stdout.flush()
    return 1 if any(finding.verdict == "bad" for finding in findings) else 0


def _ranks(options: Any) -> list[Any]:
    from ladic.doctor.rendezvous import rank_findings

    return rank_findings(options.timeout)


def _machine(options: Any) -> list[Any]:
    from ladic.doctor.cluster import cluster_findings
    from ladic.doctor.disk import disk_finding
    from ladic.doctor.machine import machine_findings

    if not options.config:
        return [*machine_findings(), disk_finding(Path()), *cluster_findings()]
    from ladic.cli.lightning_cli import parse

    words = [word for file in options.config for word in ("-c", file)]
    trainer = parse([*words, *options.overrides]).trainer
    return [
        *machine_findings(),
        _disk([*words, *options.overrides], Path(trainer.default_root_dir or ".")),
        *cluster_findings(trainer.num_nodes, trainer.devices),
    ]


def _disk(words: list[str], folder: Path) -> Any:
    """Free disk against the checkpoints of a configuration, whose model is built for that."""
    from ladic.cli.lightning_cli import built
    from ladic.doctor.disk import checkpoint_bytes, disk_finding
    from ladic.doctor.finding import Finding
    from ladic.plugins import one_line

    try:
        cli = built(words)
    except UsageError as error:
        return Finding("configuration", "bad", one_line(error))
    trainer: Any = cli.trainer
    return disk_finding(folder, checkpoint_bytes(cli.model, trainer.callbacks))
