"""Peak memory of a call, beyond weights and inputs.

On a GPU PyTorch counts it. On a CPU it is the peak of the resident memory of a process that was started for this one
call, less what was resident just before. Linux tells the peak of a process as VmHWM, which can be set back; the
`ru_maxrss` of `getrusage` cannot, and a child inherits it from the parent that started it.
"""

import resource
import sys
from collections.abc import Callable
from pathlib import Path

import torch

PAGE = resource.getpagesize()  # the least that can be told from nothing


def peak_bytes(device: torch.device, call: Callable[[], object], warm_up: Callable[[], object]) -> int:
    """Bytes at the peak of a call over those before it; `warm_up` is a small call of the same kind, to load code."""
    warm_up()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    _set_peak_back()
    before = _peak_resident()
    call()
    return max(_peak_resident() - before, PAGE)


def _set_peak_back() -> None:
    """Makes the peak the present size, where the system can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_resident() -> int:
    try:
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
