"""The memory of this machine: how much of it is free, and which errors say that it was not enough."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch

MEMINFO = Path("/proc/meminfo")
GROUP, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
SAID = (
    "can't allocate memory",
    "not enough memory",
    "std::bad_alloc",
    "CUDA out of memory",
    "CUDA error: out of memory",
    "[CUDA]: out of memory",  # Triton
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""What messages say whose errors have no type of their own; PyTorch's allocator of the CPU raises a RuntimeError."""


def exhausted(error: BaseException) -> bool:
    """Whether an error says that memory was not enough, on a CPU or a GPU."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(text in str(error) for text in SAID)


def free() -> int | None:
    """Bytes that this process may still take on the CPU: of the machine, and of its control group, if it has one.

    None where the system does not tell. Linux does not refuse more than that: it ends the process.
    """
    try:
        lines = MEMINFO.read_text().splitlines()
    except OSError:
        return None
    there = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
    group = _free_in_group()
    return min((one for one in (there, group) if one is not None), default=None)


def _free_in_group() -> int | None:
    """What a job of a cluster, or a container, may still take: the least of its control group and those above it.

    None without a limit. Version 2 of control groups is read, and version 1, whose names are others.
    """
    try:
        lines = [line.split(":", 2) for line in GROUP.read_text().splitlines()]
    except OSError:
        return None
    found: list[int] = []
    for number, kinds, name in (line for line in lines if len(line) == 3):
        if number == "0":
            found += _limits(GROUPS, name, "memory.max", "memory.current", "inactive_file")
        elif "memory" in kinds.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            found += _limits(GROUPS / "memory", name, *names)
    return min(found, default=None)


def _limits(root: Path, name: str, most: str, taken: str, given_back: str) -> Iterator[int]:
    """What is free in a group and in each above it that has a limit. Cached files are given back when it is needed."""
    place = root / name.strip("/")
    while place.is_relative_to(root):
        with suppress(OSError, ValueError):  # no such group, or `max`: no limit
            words = dict(line.split() for line in (place / "memory.stat").read_text().splitlines())
            free = int((place / most).read_text()) - int((place / taken).read_text())
            yield free + int(words.get(given_back, 0))
        place = place.parent
