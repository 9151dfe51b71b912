"""Chooses the kernels that the operators run: PyTorch's own, or those of mamba-ssm and causal-conv1d on a CUDA device.

Only this file and a few lines in each operator know these two packages. Versions older than those in SINCE are not
used, because some of their gradients are wrong: up to mamba-ssm 2.2.2 the fused backward normalises all groups
together, and up to 2.2.6 the gradient of D has a race between blocks. A package without its compiled part is not used
either. In float32, mamba-ssm's Mamba-2 kernels multiply in TF32, so their results differ from the definition by about
1e-3.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module, metadata
from typing import Any

import torch
from torch import Tensor

BACKENDS = ("auto", "torch", "cuda")
KERNELS = {
    "chunk_scan": ("mamba_ssm.ops.triton.ssd_combined", "mamba_chunk_scan_combined"),
    "split_scan": ("mamba_ssm.ops.triton.ssd_combined", "mamba_split_conv1d_scan_combined"),
    "gated_norm": ("mamba_ssm.ops.triton.layernorm_gated", "rmsnorm_fn"),
    "selective_scan": ("mamba_ssm.ops.selective_scan_interface", "selective_scan_fn"),
    "conv": ("causal_conv1d", "causal_conv1d_fn"),
}
COMPILED = {"mamba-ssm": "selective_scan_cuda", "causal-conv1d": "causal_conv1d_cuda"}
"""The compiled module of each package. Some builds of a package lack it, and then its kernels cannot run."""
NEEDS = {"split_scan": ("mamba-ssm", "causal-conv1d"), "conv": ("causal-conv1d",)}
"""The packages that a kernel needs. A kernel that is not listed here needs mamba-ssm only."""
SINCE = {"mamba-ssm": "2.3", "causal-conv1d": "1.5.2"}
"""mamba-ssm: the first version with right gradients for any number of groups. causal-conv1d: the first that fits it."""
INSTALL = "install it, pip install --no-build-isolation -e '.[cuda]' as docs/running.md says"

_requested = "auto"


def select(backend: str) -> None:
    """Sets the backend for this process.

    "auto" uses a CUDA kernel if it is installed, the tensors are on a CUDA device and their dtype is not float64.
    "torch" never uses one. "cuda" requires one: an operator raises ValueError if the kernel is not installed, or if it
    does not support the device or the dtype. With every backend, shapes that a kernel does not support are computed by
    PyTorch.

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


def kernel(name: str, tensor: Tensor) -> Callable[..., Any] | None:
    """The CUDA kernel of this name (a key of KERNELS) for a tensor; None means: use PyTorch.

    Raises:
        ValueError: if the backend is "cuda" and the kernel cannot be used for this tensor.
    """
    if _requested == "torch" or (_requested == "auto" and not tensor.is_cuda):
        return None
    if not tensor.is_cuda:
        raise ValueError(f"backend=cuda needs tensors on a CUDA device, not on {tensor.device}; use auto or torch")
    if tensor.dtype == torch.float64:
        if _requested == "auto":
            return None
        raise ValueError("backend=cuda has no kernels for float64; use float32, bfloat16 or float16, or backend=torch")
    found = _load(name)
    if isinstance(found, str):
        if _requested == "auto":
            return None
        raise ValueError(f"backend=cuda: {found}; {INSTALL}, or use backend=auto")
    return found


def missing() -> str | None:
    """Why the CUDA kernels cannot be used in this environment; None if all of them can."""
    return next((found for name in KERNELS if isinstance(found := _load(name), str)), None)


def describe(device: torch.device) -> str:
    """What the operators run on a device, as a text for logs: "torch", or "cuda" with the versions of the packages."""
    if device.type != "cuda" or _requested == "torch":
        return "torch"
    reason = missing()
    if reason is None:
        return f"cuda ({', '.join(f'{package} {metadata.version(package)}' for package in SINCE)})"
    present = [name for name in KERNELS if not isinstance(_load(name), str)]
    return f"{'torch' if not present else 'cuda for ' + ', '.join(present)} ({reason})"


@cache
def _load(name: str) -> Callable[..., Any] | str:
    """The kernel, excluded from `torch.compile`, or the reason why it cannot be used."""
    module, function = KERNELS[name]
    for package in NEEDS.get(name, ("mamba-ssm",)):
        try:
            version = metadata.version(package)
            if _numbers(version) < _numbers(SINCE[package]):
                return f"{package} {version} is older than {SINCE[package]}, before which some gradients are wrong"
            import_module(COMPILED[package])
        except metadata.PackageNotFoundError:
            return f"{package} is not installed"
        except Exception as error:  # an incomplete installation fails in many ways
            return _unusable(package, error)
    try:
        return torch.compiler.disable(getattr(import_module(module), function))
    except Exception as error:
        return _unusable(module, error)


def _unusable(what: str, error: Exception) -> str:
    reason = str(error).partition("\n")[0]
    return f"{what} cannot be used ({type(error).__name__}: {reason})"


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]
