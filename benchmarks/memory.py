"""Peak memory of a call, beyond weights and inputs, and functions in a process of their own.

On a GPU PyTorch counts it. On a CPU it is the peak of the resident memory of a process that was started for this one
call, less what was resident just before. Linux tells the peak of a process as VmHWM, which can be set back; the
`ru_maxrss` of `getrusage` cannot, and a child inherits it from the parent that started it.
"""

import multiprocessing
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from benchmarks.bench import Bench
from benchmarks.models import Scale, language_model, mixer
from benchmarks.passes import draw, passes, precision
from benchmarks.timing import Call

PAGE = resource.getpagesize()  # the least that can be told from nothing
WARM_UP_LENGTH = 64
NETWORK = "network"


def in_a_child(function: Callable[..., Any], **arguments: Any) -> Any:
    """What a function returns, or raises, in a fresh process with as many threads as this one has."""
    fresh, threads = multiprocessing.get_context("spawn"), (torch.get_num_threads(),)
    with ProcessPoolExecutor(1, fresh, torch.set_num_threads, threads) as executor:
        return executor.submit(function, **arguments).result()


def peak(bench: Bench, variant: str, scale: Scale, batch: int, length: int, mode: str) -> int:
    """Bytes at the peak of a variant's pass over what its weights and input take.

    `mode` is one of a mixer's passes, or NETWORK: the forward pass of a language model that keeps what backward needs,
    as in the paper's table 7. On a CPU it runs in a child process.
    """
    bench.tell(f"memory: {variant}, {mode}, batch {batch}, length {length}")
    case = {"device": bench.device, "variant": variant, "scale": scale, "batch": batch, "length": length, "mode": mode}
    return of_case(**case) if bench.device.type == "cuda" else in_a_child(of_case, **case)


def of_case(device: torch.device, variant: str, scale: Scale, batch: int, length: int, mode: str) -> int:
    """One case, in the process that calls it."""
    module = (language_model if mode == NETWORK else mixer)(variant, scale, device)

    def pass_over(positions: int) -> Call:
        if mode != NETWORK:
            return passes(module, draw(batch, positions, module.in_proj.in_features, device=device))[mode]
        symbols = torch.zeros(batch, positions, dtype=torch.long, device=device)
        return lambda: _keep_graph(module, symbols)

    return peak_bytes(device, pass_over(length), pass_over(min(length, WARM_UP_LENGTH)))


def _keep_graph(network: torch.nn.Module, symbols: torch.Tensor) -> None:
    with precision(symbols.device):
        network(symbols)


def peak_bytes(device: torch.device, call: Call, warm_up: Call) -> int:
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
    with suppress(OSError):  # where the system can, the peak becomes the present size
        Path("/proc/self/clear_refs").write_text("5")
    before = _peak_resident()
    call()
    return max(_peak_resident() - before, PAGE)


def _peak_resident() -> int:
    try:
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
