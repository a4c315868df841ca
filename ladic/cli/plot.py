"""``ladic plot``: pictures of components; so far of noise schedules."""

from __future__ import annotations

from pathlib import Path

from ladic.cli.parser import LineParser
from ladic.errors import UsageError


def main(argv: list[str]) -> None:
    """Writes the picture."""
    parser = LineParser("ladic plot", description="Draw alpha_bar and log SNR of noise schedules over time.")
    parser.add_argument("what", choices=["schedules"], help="schedules")
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="with arguments after a colon: TanSchedule:d=3,floor=0; all schedules as they are if none is named",
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("schedules.png"), help="default %(default)s")
    options = parser.parse_args(argv)
    if options.output.suffix.lower() != ".png":
        raise UsageError(f"--output {options.output}: the name must end in .png")
    if not options.output.absolute().parent.is_dir():
        raise UsageError(f"--output {options.output}: no folder {options.output.absolute().parent}; make it first")

    from ladic.cli.words import component, known
    from ladic.components import NoiseSchedule
    from ladic.plots import schedule_figure
    from ladic.plugins import load_plugins

    load_plugins()
    names = options.names or [name for name in known("noise_schedules") if "." not in name]
    drawn = {name: component(name, "noise_schedules", NoiseSchedule) for name in names}
    options.output.write_bytes(schedule_figure(drawn))
    print(f"wrote {options.output}")
