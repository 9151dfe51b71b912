"""The kernels of mamba-ssm and causal-conv1d for a CUDA device: which of them can be used here, and why not the others.

Only this file and a few lines in each operator know these two packages. Versions older than those in SINCE are not
used, because some of their gradients are wrong: up to mamba-ssm 2.2.2 the fused backward normalises all groups
together, and up to 2.2.6 the gradient of D has a race between blocks. A package without its compiled part is not used
either. In float32, mamba-ssm's Mamba-2 kernels multiply in TF32, so their results differ from the definition by about
1e-3.
"""

import re
from collections.abc import Callable
from functools import cache
from importlib import import_module, metadata
from typing import Any

import torch

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


def missing() -> str | None:
    """Why the CUDA kernels cannot be used in this environment; None if all of them can."""
    return next((found for name in KERNELS if isinstance(found := load(name), str)), None)


@cache
def load(name: str) -> Callable[..., Any] | str:
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
