"""The kernels of mamba-ssm and causal-conv1d for a CUDA device: which of them can be used here, and why not the others.

Only this file and a few lines in each operator know these two packages. The kernels of Mamba-2's scan and norm are
written in Triton, which PyTorch for CUDA brings. The others are compiled with nvcc, and so is what mamba-ssm's
`__init__` imports. An install without the compiled parts still has the Triton kernels, so each kernel is looked for by
itself.

Versions older than those in SINCE are not used, because some of their gradients are wrong: up to mamba-ssm 2.2.2 the
fused backward normalises all groups together, and up to 2.2.6 the gradient of D has a race between blocks. In float32,
mamba-ssm's Mamba-2 kernels multiply in TF32, so their results differ from the definition by about 1e-3.
"""

import re
import sys
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from importlib import import_module, metadata, util
from types import ModuleType
from typing import Any

import torch

KERNELS = {
    "chunk_scan": ("mamba_ssm.ops.triton.ssd_combined", "mamba_chunk_scan_combined"),
    "gated_norm": ("mamba_ssm.ops.triton.layernorm_gated", "rmsnorm_fn"),
    "split_scan": ("mamba_ssm.ops.triton.ssd_combined", "mamba_split_conv1d_scan_combined"),
    "selective_scan": ("mamba_ssm.ops.selective_scan_interface", "selective_scan_fn"),
    "conv": ("causal_conv1d.causal_conv1d_interface", "causal_conv1d_fn"),
}
NEEDS = {"split_scan": ("mamba-ssm", "causal-conv1d"), "conv": ("causal-conv1d",)}
"""The packages that a kernel needs. A kernel that is not listed here needs mamba-ssm only."""
COMPILED = {
    "split_scan": ("causal-conv1d", "causal_conv1d_cuda"),
    "selective_scan": ("mamba-ssm", "selective_scan_cuda"),
    "conv": ("causal-conv1d", "causal_conv1d_cuda"),
}
"""The compiled module that a kernel needs, and its package. Those that are not listed here are Triton kernels."""
SINCE = {"mamba-ssm": "2.3", "causal-conv1d": "1.5.2"}
"""mamba-ssm: the first version with right gradients for any number of groups. causal-conv1d: the first that fits it."""
INSTALL = "install mamba-ssm as docs/running.md says"


def missing() -> str | None:
    """Why no CUDA kernel at all can be used in this environment; None if at least one can."""
    reasons = [found for name in KERNELS if isinstance(found := load(name), str)]
    return reasons[0] if len(reasons) == len(KERNELS) else None


def describe() -> str:
    """The kernels that can be used here, their packages, and why not the others, in one line."""
    there: list[str] = []
    lacking: dict[str, list[str]] = defaultdict(list)
    for name in KERNELS:
        found = load(name)
        (lacking[found] if isinstance(found, str) else there).append(name)
    if not there:
        return f"torch ({next(iter(lacking))})"
    packages = [package for package in SINCE if any(package in _needs(name) for name in there)]
    versions = ", ".join(f"{package} {metadata.version(package)}" for package in packages)
    if not lacking:
        return f"cuda ({versions})"
    rest = ", ".join(f"{', '.join(names)} ({reason})" for reason, names in lacking.items())
    return f"cuda for {', '.join(there)} ({versions}), torch for {rest}"


@cache
def load(name: str) -> Callable[..., Any] | str:
    """The kernel, excluded from `torch.compile`, or the reason why it cannot be used."""
    for package in _needs(name):
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            return f"{package} is not installed"
        if _numbers(version) < _numbers(SINCE[package]):
            return f"{package} {version} is older than {SINCE[package]}, before which some gradients are wrong"
    if name in COMPILED:
        package, compiled = COMPILED[name]
        try:
            import_module(compiled)
        except ModuleNotFoundError:
            return f"{package} is installed without its compiled part"
        except Exception as error:  # an incomplete installation fails in many ways
            return _unusable(f"the compiled part of {package}", error)
    module, function = KERNELS[name]
    try:
        return torch.compiler.disable(getattr(_imported(module), function))
    except Exception as error:
        return _unusable(module, error)


def _imported(name: str) -> ModuleType:
    """A module inside a package, also where the `__init__` of the package fails.

    That of mamba-ssm imports its compiled part and all its models. Where it fails, an empty package stands in its place
    while the module is imported, and is gone afterwards: nobody else takes it for the package.
    """
    package = name.partition(".")[0]
    try:
        return import_module(name)
    except Exception:
        if package in sys.modules or (spec := util.find_spec(package)) is None:
            raise
    sys.modules[package] = util.module_from_spec(spec)
    try:
        return import_module(name)
    finally:
        del sys.modules[package]


def _needs(name: str) -> tuple[str, ...]:
    return NEEDS.get(name, ("mamba-ssm",))


def _unusable(what: str, error: Exception) -> str:
    reason = str(error).partition("\n")[0]
    return f"{what} cannot be used ({type(error).__name__}: {reason})"


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]
