"""The memory of this machine: how much of it is free, and which errors say that it was not enough."""

from pathlib import Path

import torch

MEMINFO = Path("/proc/meminfo")
GROUP, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
SAID = ("can't allocate memory", "not enough memory", "CUDA out of memory", "CUDNN_STATUS_ALLOC_FAILED")
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
    """What a job of a cluster, or a container, may still take (control groups of version 2); None without a limit."""
    try:
        name = next(line for line in GROUP.read_text().splitlines() if line.startswith("0::"))[3:].strip("/")
        place = GROUPS / name
        most, taken = (place / file for file in ("memory.max", "memory.current"))
        return int(most.read_text()) - int(taken.read_text())
    except (OSError, ValueError, StopIteration):  # no such group, or `max`: no limit
        return None
