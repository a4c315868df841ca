"""Fair timing of alternatives on noisy machines: interleaved, medians, ratios within one run."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping


def interleaved(
    alternatives: Mapping[str, Callable[[], object]], rounds: int = 15, warmup: int = 3, device: str = "cpu"
) -> dict[str, float]:
    """Median seconds of each alternative; they take turns, so that a slow moment hits all of them.

    Args:
        alternatives: functions by name.
        rounds: that count.
        warmup: rounds before those.
        device: type of the one that they compute on; a GPU is waited for.
    """
    times: dict[str, list[float]] = {name: [] for name in alternatives}
    for turn in range(warmup + rounds):
        for name, function in alternatives.items():
            wait(device)
            started = time.perf_counter()
            function()
            wait(device)
            if turn >= warmup:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def wait(device: str) -> None:
    """Until a GPU has done what it was told."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def precision() -> str:
    """What ``fast_autocast`` computes in on this machine's processor."""
    from ladic.precision import computes_bf16

    return "bf16" if computes_bf16() else "fp32"


def machine(device: str = "cpu") -> str:
    """Processor, cores and the versions that matter, for the head of a result; or the GPU."""
    import torch

    from ladic.doctor.machine import processor_name

    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"

    return f"{processor_name()}, {os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads"
