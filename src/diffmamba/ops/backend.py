"""Whose kernels the operators run: PyTorch's own, or mamba-ssm's and causal-conv1d's on a CUDA device.

Everything that knows these two packages by name is here and in the few lines of each operator that call a kernel. The
kernels' arguments are the same in mamba-ssm 2.2 and 2.3, but not their gradients: up to 2.2.2 the fused backward takes
the norm over all groups at once, and up to 2.2.6 the gradient of D races between blocks. So versions before those of
SINCE count as absent, with that reason, and so does a build without its compiled parts. In float32 mamba-ssm's Mamba-2
kernels multiply in TF32, which is about 1e-3 from the definition.
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
"""The compiled module of each package; without it the package is there in name only."""
NEEDS = {"split_scan": ("mamba-ssm", "causal-conv1d"), "conv": ("causal-conv1d",)}
"""The packages of a kernel, where it is not mamba-ssm alone."""
SINCE = {"mamba-ssm": "2.3", "causal-conv1d": "1.5.2"}
"""The first version whose gradients are right for any number of groups; and the first that goes with it."""
INSTALL = "install it, pip install --no-build-isolation -e '.[cuda]' as the README says"

_requested = "auto"


def select(backend: str) -> None:
    """Sets the backend of this process.

    "auto" takes a CUDA kernel where the tensors are on a CUDA device, of a dtype it knows, and it is installed;
    "torch" never does; "cuda" insists on device, dtype and installation: operators raise ValueError where one is
    wrong. Shapes that a kernel does not take go to PyTorch in any case.
    """
    global _requested
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend} is not known; use one of {', '.join(BACKENDS)}")
    _requested = backend


@contextmanager
def use(backend: str) -> Iterator[None]:
    """`select` for the time of a with statement."""
    before = _requested
    select(backend)
    try:
        yield
    finally:
        select(before)


def kernel(name: str, tensor: Tensor) -> Callable[..., Any] | None:
    """The CUDA kernel of this name for a tensor, or None where PyTorch's operators are to be used."""
    if _requested == "torch" or (_requested == "auto" and not tensor.is_cuda):
        return None
    if not tensor.is_cuda:
        raise ValueError(f"backend=cuda needs tensors on a CUDA device, not on {tensor.device}; auto or torch would do")
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
    """Why there are no CUDA kernels in this environment; None where there are."""
    return next((found for name in KERNELS if isinstance(found := _load(name), str)), None)


def describe(device: torch.device) -> str:
    """What operators run on a device, for a log: "torch", or "cuda" and the packages' versions."""
    if device.type != "cuda" or _requested == "torch":
        return "torch"
    reason = missing()
    if reason is None:
        return f"cuda ({', '.join(f'{package} {metadata.version(package)}' for package in SINCE)})"
    present = [name for name in KERNELS if not isinstance(_load(name), str)]
    return f"{'torch' if not present else 'cuda for ' + ', '.join(present)} ({reason})"


@cache
def _load(name: str) -> Callable[..., Any] | str:
    """The kernel, which `torch.compile` is to leave alone, or why it cannot be had."""
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
