"""What is measured of a function: its two passes, forward without a graph and forward with backward; its peak memory.

On a GPU PyTorch counts the memory. On a CPU it is the peak of the resident memory of a process that was started for
this one call, less what was resident just before. Linux tells the peak of a process as VmHWM, which can be set back;
the `ru_maxrss` of `getrusage` cannot, and a child inherits it from the parent that started it.
"""

import multiprocessing
import resource
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.models import Scale, mixer
from benchmarks.timing import Call

MODES = ("forward", "forward+backward")
JUDGED = "forward+backward"  # the mode that targets are for
PAGE = resource.getpagesize()  # the least memory that can be told from nothing
WARM_UP_LENGTH = 64


def precision(device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 autocast on a GPU, float32 on a CPU."""
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()


def passes(function: Callable[..., Tensor | Sequence[Tensor]], *inputs: Tensor) -> dict[str, Call]:
    """All passes of a function (or module) of some inputs, as calls without arguments.

    Backward starts from fixed gradients of the outputs and reaches every input that requires one and, of a module,
    every parameter.
    """
    device = inputs[0].device
    leaves = [tensor for tensor in inputs if tensor.requires_grad]
    if isinstance(function, nn.Module):
        leaves += function.parameters()
    gradients: list[Tensor] = []

    def with_graph() -> Tensor | Sequence[Tensor]:
        with precision(device):
            return function(*inputs)

    def forward_backward() -> None:
        for leaf in leaves:
            leaf.grad = None
        outputs = with_graph()
        outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        if not gradients:
            gradients.extend(torch.randn_like(output) for output in outputs)
        torch.autograd.backward(outputs, gradients)

    return dict(zip(MODES, (torch.no_grad()(with_graph), forward_backward), strict=True))


def floor(mixer: nn.Module, batch: int, length: int) -> dict[str, Call]:
    """The passes of a mixer's projections alone, each of an input of its own: the least that a mixer takes."""
    weights = [part.weight.detach().clone().requires_grad_() for part in mixer.modules() if isinstance(part, nn.Linear)]
    inputs = [draw(batch, length, weight.shape[1], device=weight.device) for weight in weights]
    return passes(lambda *both: list(map(F.linear, both[: len(inputs)], both[len(inputs) :])), *inputs, *weights)


def draw(*shape: int, device: torch.device | str = "cpu") -> Tensor:
    """An input with gradient."""
    return torch.randn(*shape, device=device).requires_grad_()


def off_by(ours: Callable[..., Tensor], theirs: Callable[..., Tensor], *inputs: Tensor) -> float:
    """The largest difference between the outputs of two functions, relative to the largest entry of the second's."""
    with torch.no_grad(), precision(inputs[0].device):
        one, other = ours(*inputs), theirs(*inputs)
    return ((one - other).abs().max() / other.abs().max()).item()


def in_a_child(function: Callable[..., Any], **arguments: Any) -> Any:
    """What a function returns, or raises, in a fresh process with as many threads as this one has."""
    fresh, threads = multiprocessing.get_context("spawn"), (torch.get_num_threads(),)
    with ProcessPoolExecutor(1, fresh, torch.set_num_threads, threads) as executor:
        return executor.submit(function, **arguments).result()


def peak(device: torch.device, variant: str, scale: Scale, batch: int, length: int, mode: str) -> int:
    """Bytes at the peak of a mixer's pass over what its weights and input take, in the process that calls it."""
    module = mixer(variant, scale, device)

    def pass_over(positions: int) -> Call:
        return passes(module, draw(batch, positions, module.in_proj.in_features, device=device))[mode]

    return peak_bytes(device, pass_over(length), pass_over(min(length, WARM_UP_LENGTH)))


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
