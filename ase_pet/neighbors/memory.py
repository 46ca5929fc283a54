"""Refuse a neighbour list that memory cannot hold, before it is built."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ase_pet.errors import NeighborError

#: Peak memory of a search for each directed edge of its result, bytes, intermediates included.
BYTES_PER_EDGE = 250
#: Peak memory of a periodic image atom and its place in the grid, bytes.
BYTES_PER_IMAGE = 200

#: Below this nobody runs out of memory, and asking for what is free costs more, bytes.
SMALL = 2**26


def require_memory(what: str, count: float, size: int, device: torch.device) -> None:
    """Raise unless ``count`` items of ``size`` bytes fit in the free memory of ``device``.

    Args:
        what: What is counted, for the message.
        count: Estimated number of items.
        size: Bytes an item.
        device: Where they will live.

    Raises:
        NeighborError: If they do not fit.
    """
    if count * size < SMALL:
        return
    available = available_memory(device)
    if count * size > available:
        raise NeighborError(
            f"neighbour list: about {count:.2g} {what} need about {count * size / 2**30:.3g} GiB, "
            f"but {available / 2**30:.3g} GiB are free on {device}; check that cutoff and cell are "
            "both in Å, use a shorter cutoff, or split the structures into smaller batches"
        )


@contextmanager
def memory_errors(n_atoms: int, cutoff: float) -> Iterator[None]:
    """Turn a failure to allocate into a ``NeighborError`` that says what to do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise NeighborError(
            f"neighbour list: out of memory for {n_atoms} atoms and cutoff {cutoff:g} Å; use a "
            "shorter cutoff or split the structures into smaller batches"
        ) from error


def is_out_of_memory(error: Exception) -> bool:
    """Whether an exception of numpy or torch says that memory could not be had."""
    # torch raises OutOfMemoryError for CUDA, but a plain RuntimeError for the CPU.
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or "allocate memory" in str(error)


def available_memory(device: torch.device) -> float:
    """Free memory of a device in bytes; infinite where the system does not tell."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + cached)
    return min(_host_memory(), _container_memory())


def _host_memory() -> float:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (OSError, ValueError, AttributeError):  # not Linux: nothing known, nothing refused
        return float("inf")


def _container_memory() -> float:
    root = Path("/sys/fs/cgroup")
    try:
        limit = (root / "memory.max").read_text().strip()
        if limit == "max":
            return float("inf")
        used = float((root / "memory.current").read_text())
        parts = dict(line.split() for line in (root / "memory.stat").read_text().splitlines())
        # Files that were read and can be dropped count as used.
        return float(limit) - used + float(parts.get("inactive_file", 0))
    except (OSError, ValueError):
        return float("inf")
