"""Python, libraries, devices, processors, memory, Java and the hub."""

from __future__ import annotations

import os
import platform
import re
import socket
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

from ladic.doctor.finding import Finding
from ladic.memory import free_memory, memory_limits

LIBRARIES = ("ladic", "torch", "torchvision", "lightning", "transformers", "timm", "numpy")


def machine_findings() -> list[Finding]:
    """Everything about this machine that a run may depend on."""
    return [
        *software(),
        *devices(),
        processors(),
        memory(),
        *java(),
        hub_cache(),
        hub_reach(),
    ]


def software() -> list[Finding]:
    """Python and the versions of libraries."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    absent = [name for name, number in found.items() if number == "absent"]
    told = ", ".join(f"{name} {number}" for name, number in found.items())
    return [
        Finding("python", "ok", f"{platform.python_version()} on {platform.platform()}"),
        Finding("libraries", "bad" if absent else "ok", told + ("; run `pip install ladic`" if absent else "")),
    ]


def devices() -> list[Finding]:
    """Accelerators with their memory, and which precisions are worth using."""
    import torch

    from ladic.precision import bf16_instructions, computes_bf16

    if torch.cuda.is_available():
        found = []
        for index in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(index)
            found.append(f"{card.name} {card.total_memory / 2**30:.0f} GiB (capability {card.major}.{card.minor})")
        bf16 = computes_bf16("cuda")
        told = "bf16-mixed and 16-mixed" if bf16 else "16-mixed; bf16 would be emulated here"
        return [Finding("devices", "ok", ", ".join(found)), Finding("precision", "ok" if bf16 else "note", told)]
    fast = bf16_instructions()
    told = f"32-true; bf16-mixed is computed by {', '.join(fast)}" if fast else "32-true; bf16 would be emulated here"
    built = f"torch {torch.__version__} is built for CUDA {torch.version.cuda}" if torch.version.cuda else "a CPU build"
    return [
        Finding("devices", "note", f"no accelerator ({built}): training runs on the processor"),
        Finding("precision", "ok" if fast else "note", told),
    ]


def processors() -> Finding:
    """Cores this process may use, which in a job are fewer than the machine's."""
    total = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else total
    return Finding("processors", "ok" if usable > 1 else "note", f"{usable} of {total} cores usable")


def processor_name() -> str:
    """As the maker calls it, where the machine tells."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def memory() -> Finding:
    """Memory of the machine, and the limit of this job's control group where there is one."""
    file = Path("/proc/meminfo")
    if not file.is_file():
        return Finding("memory", "note", "not known on this system")
    values = {key: int(number) * 1024 for key, number in re.findall(r"^(\w+):\s+(\d+) kB", file.read_text(), re.M)}
    told = f"{gib(values['MemAvailable'])} of {gib(values['MemTotal'])} free"
    limit = min((limit for limit, _ in memory_limits()), default=None)
    if limit is not None and limit < values["MemTotal"]:
        told += f", limited to {gib(limit)}"
    return Finding("memory", "ok" if free_memory() > 2 * 2**30 else "note", told)


def java() -> list[Finding]:
    """Java, METEOR (one caption is really scored) and what SPICE needs."""
    from ladic.metrics.functional.jars import Unavailable, find_jar, find_java
    from ladic.metrics.functional.meteor import meteor

    findings = []
    try:
        findings.append(Finding("java", "ok", find_java()))
    except Unavailable as reason:
        return [Finding("java", "note", f"{reason}; METEOR and SPICE will be null")]
    try:
        score = meteor(["a dog runs"], [["a dog runs"]], timeout=60).corpus
        findings.append(Finding("METEOR", "ok", f"a caption against itself scores {score:.3f}"))
    except Unavailable as reason:
        findings.append(Finding("METEOR", "note", f"{reason}; it will be null"))
    try:
        find_jar("spice", "spice-1.0.jar")
        models = find_jar("spice", "lib", "stanford-corenlp-3.6.0-models.jar")
        findings.append(Finding("SPICE", "ok", str(models.parent)))
    except Unavailable as reason:
        findings.append(Finding("SPICE", "note", f"{reason}; it will be null"))
    return findings


def hub_cache() -> Finding:
    """Models that are there without a network."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    count = len(list(folder.glob("models--*"))) if folder.is_dir() else 0
    return Finding("hub cache", "ok", f"{folder}: {count} models")


def hub_reach(timeout: float = 3.0) -> Finding:
    """Whether models can be fetched."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return Finding("hub", "note", "not asked: HF_HUB_OFFLINE is set; models come from the cache or from folders")
    host = urlsplit(constants.ENDPOINT)
    address = (host.hostname or "", host.port or (443 if host.scheme == "https" else 80))
    try:
        with socket.create_connection(address, timeout):
            return Finding("hub", "ok", f"{address[0]} answers")
    except OSError as error:
        return Finding(
            "hub", "note", f"{address[0]} doesn't answer ({error}); set HF_HUB_OFFLINE=1 and give folders as models"
        )


def gib(size: float) -> str:
    """
    >>> gib(3 * 2**30)
    '3.0 GiB'
    """
    return f"{size / 2**30:.1f} GiB"
