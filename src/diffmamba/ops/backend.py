"""Chooses what the operators run: their definition, PyTorch's operators, our compiled CPU path, or CUDA kernels.

    | backend    | runs                                                                                              |
    | auto       | the compiled CPU path or the CUDA kernels where they fit the tensor, else PyTorch's operators      |
    | torch      | PyTorch's operators, on any device                                                                 |
    | cpu        | the compiled CPU path; an error where it cannot be built, or for another device or dtype           |
    | cuda       | the CUDA kernels that are there, PyTorch's operators for the others; an error where there is none  |
    | definition | one position after the other in PyTorch: slow, any dtype, differentiable any number of times       |

Shapes that a kernel does not support are computed by PyTorch's operators with every backend.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from diffmamba.ops import cuda
from diffmamba.ops.cpu import build

BACKENDS = ("auto", "torch", "cpu", "cuda", "definition")
CPU_DTYPES = (torch.float32, torch.bfloat16)

_requested = "auto"


def select(backend: str) -> None:
    """Sets the backend for this process, one of BACKENDS.

    Raises:
        ValueError: for an unknown name.
    """
    global _requested
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend} is not known; use one of {', '.join(BACKENDS)}")
    _requested = backend


@contextmanager
def use(backend: str) -> Iterator[None]:
    """Sets the backend inside a `with` block, and restores the previous one after it."""
    before = _requested
    select(backend)
    try:
        yield
    finally:
        select(before)


def by_definition() -> bool:
    """Whether every operator runs its definition."""
    return _requested == "definition"


def forward_mode() -> bool:
    """Whether forward-mode derivatives are computed now. Operators of our own drop them without a word."""
    return forward_ad._current_level >= 0 and not torch.compiler.is_compiling()


def transformed() -> bool:
    """Whether `torch.func` transforms functions now, or forward-mode derivatives are computed.

    Then only PyTorch's operators will do.
    """
    found = forward_ad._current_level >= 0 or torch._C._functorch.peek_interpreter_stack() is not None
    return found and not torch.compiler.is_compiling()


def compiled(tensor: Tensor) -> ctypes.CDLL | None:
    """The compiled CPU library for a tensor; None means: use PyTorch.

    Raises:
        ValueError: if the backend is "cpu" and the library cannot be used for this tensor.
    """
    if _requested not in ("auto", "cpu"):
        return None
    if tensor.device.type == "cpu" and tensor.dtype in CPU_DTYPES:
        found = _library()
        if not isinstance(found, str):
            return found
    if _requested == "auto":
        return None
    if tensor.device.type != "cpu":
        raise ValueError(f"backend=cpu needs tensors on the CPU, not on {tensor.device}; use auto or torch")
    reason = _not_compiled_for(tensor.dtype) or found
    raise ValueError(f"backend=cpu: {reason}; use backend=auto or torch")


@torch.compiler.assume_constant_result  # `torch.compile` does not look inside
def _library() -> ctypes.CDLL | str:
    return build.load()


def kernel(name: str, tensor: Tensor) -> Callable[..., Any] | None:
    """The CUDA kernel of this name (a key of `cuda.KERNELS`) for a tensor; None means: use something else.

    Raises:
        ValueError: if the backend is "cuda" and the kernel cannot be used for this tensor.
    """
    if _requested not in ("auto", "cuda") or (_requested == "auto" and not tensor.is_cuda):
        return None
    if not tensor.is_cuda:
        raise ValueError(f"backend=cuda needs tensors on a CUDA device, not on {tensor.device}; use auto or torch")
    if tensor.dtype == torch.float64:
        if _requested == "auto":
            return None
        raise ValueError("backend=cuda has no kernels for float64; use float32, bfloat16 or float16, or backend=torch")
    if not isinstance(found := cuda.load(name), str):
        return found
    if _requested == "cuda" and (reason := cuda.missing()):
        raise ValueError(f"backend=cuda: {reason}; {cuda.INSTALL}, or use backend=auto")
    return None


def unusable(backend: str, dtype: torch.dtype) -> str | None:
    """Why a backend that is insisted on has no operators in this environment for a number type; None if it has them.

    Raises SettingError for a value of $DIFFMAMBA_CPU that cannot be used here.
    """
    if backend == "cpu":
        found = build.load()
        if isinstance(found, str):
            return f"{found}; mend that as docs/running.md says"
        return None if dtype in CPU_DTYPES else f"{_not_compiled_for(dtype)}; use another precision"
    if backend == "cuda" and dtype == torch.float64:
        return "it has no float64, only float32, bfloat16 and float16; use another precision"
    return f"{reason}; {cuda.INSTALL}" if backend == "cuda" and (reason := cuda.missing()) else None


def describe(device: torch.device, dtype: torch.dtype = torch.float32) -> str:
    """What the operators run on a device for a number type, and why not more, as a text for logs and records."""
    if _requested in ("torch", "definition"):
        return _requested
    if device.type == "cpu" and _requested != "cuda":
        found = build.load()
        reason = found if isinstance(found, str) else _not_compiled_for(dtype)
        return f"torch ({reason})" if reason else f"cpu ({build.describe()})"
    if device.type != "cuda" or _requested == "cpu":
        return "torch"
    if dtype == torch.float64:
        return "torch (no CUDA kernel has float64)"
    return cuda.describe()


def _not_compiled_for(dtype: torch.dtype) -> str | None:
    name = str(dtype).removeprefix("torch.")
    return None if dtype in CPU_DTYPES else f"the compiled operators have no {name}, only float32 and bfloat16"
