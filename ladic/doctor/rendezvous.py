"""Whether all ranks of a job reach each other, and if not, which doesn't answer."""

from __future__ import annotations

import os
import socket
import time
from datetime import timedelta
from typing import NamedTuple

from ladic.doctor.cluster import host_of_rank, slurm_environment
from ladic.doctor.finding import Finding
from ladic.errors import UsageError


class Place(NamedTuple):
    """Where this process stands among the ranks."""

    rank: int
    world_size: int
    address: str
    port: int


def place() -> Place:
    """From torchrun's variables, which may itself be a task of SLURM's, or SLURM's.

    Raises:
        UsageError: where there are neither.
    """
    environment = os.environ
    if "RANK" in environment and "WORLD_SIZE" in environment:
        address, port = environment.get("MASTER_ADDR", "127.0.0.1"), int(environment.get("MASTER_PORT", "29500"))
        return Place(int(environment["RANK"]), int(environment["WORLD_SIZE"]), address, port)
    if "SLURM_PROCID" in environment and "SLURM_NTASKS" in environment:
        found = slurm_environment()
        rank, world = int(environment["SLURM_PROCID"]), int(environment["SLURM_NTASKS"])
        return Place(rank, world, found.main_address, found.main_port)
    raise UsageError(
        "--ranks: start one process a rank, `srun ladic doctor --ranks` or `torchrun … -m ladic doctor --ranks`"
    )


def rank_findings(timeout: float) -> list[Finding]:
    """Meets the other ranks at the master's store and sums a tensor over them with gloo, or NCCL where there are GPUs.

    Args:
        timeout: seconds until a rank counts as absent.
    """
    import torch
    import torch.distributed as dist

    here = place()
    name = f"rank {here.rank} on {socket.gethostname()}"
    limit, began = timedelta(seconds=timeout), time.perf_counter()
    try:
        store = dist.TCPStore(
            here.address, here.port, here.world_size, is_master=here.rank == 0, timeout=limit, wait_for_workers=False
        )
        store.set(f"here/{here.rank}", os.environ.get("SLURMD_NODENAME", socket.gethostname()))
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        return [
            Finding(
                name, "bad", f"the master {here.address}:{here.port} doesn't answer within {timeout:g} s ({reason})"
            )
        ]
    absent = [rank for rank in range(here.world_size) if not _answers(store, rank, began + timeout)]
    if absent:
        if here.rank == 0:
            time.sleep(2)  # the store is in this process: the others are still asking it
        tasks = "RANK" not in os.environ  # torchrun's ranks are no tasks of SLURM's
        named = {rank: host_of_rank(rank) if tasks else None for rank in absent}
        told = ", ".join(f"rank {rank} on {host or 'an unknown host'}" for rank, host in named.items())
        return [Finding(name, "bad", f"no answer within {timeout:g} s from {told}")]
    hosts = {store.get(f"here/{rank}").decode() for rank in range(here.world_size)}
    gpu = torch.cuda.is_available()
    backend = "nccl" if gpu else "gloo"
    if gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0"))))
    try:
        dist.init_process_group(backend, store=store, rank=here.rank, world_size=here.world_size, timeout=limit)
        numbers = torch.full((2**18,), float(here.rank + 1), device="cuda" if gpu else "cpu")
        dist.all_reduce(numbers)
        right = bool((numbers == here.world_size * (here.world_size + 1) / 2).all())
        dist.barrier()
        dist.destroy_process_group()
    except RuntimeError as error:
        return [Finding(name, "bad", f"{backend}: {str(error).splitlines()[0]}")]
    if not right:
        return [Finding(name, "bad", f"{backend} summed wrongly over {here.world_size} ranks")]
    seconds = time.perf_counter() - began
    where = f"{len(hosts)} host{'s' if len(hosts) > 1 else ''} ({', '.join(sorted(hosts))})"
    told = f"{backend} sums over {here.world_size} ranks on {where} in {seconds:.1f} s"
    return [Finding(name, "ok", told)]


def _answers(store: object, rank: int, deadline: float) -> bool:
    """Whether a rank has signed in before the deadline; one look where it has passed."""
    import torch.distributed as dist

    left = max(0.05, deadline - time.perf_counter())
    try:
        store.wait([f"here/{rank}"], timedelta(seconds=left))  # type: ignore[attr-defined]
        return True
    except (RuntimeError, dist.DistStoreError):
        return False
