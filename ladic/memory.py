"""How much memory a process can still get: the machine's, its control groups' and its own limit, whichever is least."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def free_memory() -> int:
    """Bytes that this process can still get.

    A cluster's job has a control group of its own: the machine may have hundreds of gigabytes more than it.
    """
    return min(_of_machine(), *(limit - used for limit, used in memory_limits()), _of_address_space())


def memory_limits() -> Iterator[tuple[int, int]]:
    """Limit and use in bytes of each control group that this process is in and that has a limit (versions 1 and 2)."""
    file = PROC / "self" / "cgroup"
    for line in file.read_text().splitlines() if file.is_file() else ():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            root, names = CGROUPS, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root, names = CGROUPS / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # In a container the path may be that of the host: what is mounted at the root is then our own group.
        for folder in {root / part.strip("/") for part in (path, *map(str, Path(path).parents), "/")}:
            limit, used = (_number(folder / name) for name in names[:2])
            if limit is not None and used is not None:
                yield limit, max(0, used - _from_stat(folder / "memory.stat", names[2]))


def _of_machine() -> int:
    file = PROC / "meminfo"
    found = re.search(r"^MemAvailable:\s+(\d+) kB", file.read_text(), re.M) if file.is_file() else None
    return int(found[1]) * 1024 if found else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _of_address_space() -> int:
    """What ``ulimit -v`` leaves."""
    import resource

    limit, file = resource.getrlimit(resource.RLIMIT_AS)[0], PROC / "self" / "statm"
    if limit == resource.RLIM_INFINITY or not file.is_file():
        return 2**62
    return limit - int(file.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _number(file: Path) -> int | None:
    """The number in a file; None where there is none ("max" is no limit)."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _from_stat(file: Path, name: str) -> int:
    """Bytes of files that the kernel gives back when asked, from ``memory.stat``."""
    try:
        found = re.search(rf"^{name} (\d+)$", file.read_text(), re.M)
    except OSError:
        return 0
    return int(found[1]) if found else 0
