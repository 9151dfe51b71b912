"""mamba-ssm's references in plain PyTorch, which need neither a GPU nor a compiler.

`make setup` installs the Python files of mamba-ssm and causal-conv1d into `.reference`, not into the environment.
Otherwise transformers would import mamba-ssm and try its kernels, which do not run here. Modules that only the kernels
need are replaced by stand-ins. After the tests, the loaded modules of the process are as they were before.
"""

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

DIRECTORY = Path(os.environ.get("DIFFMAMBA_REFERENCE", Path(__file__).parents[2] / ".reference"))
PACKAGES = ("mamba_ssm", "causal_conv1d", "einops")
STAND_INS = ("triton", "selective_scan_cuda")

Reference = Callable[..., Any]


@dataclass(frozen=True, repr=False)
class MambaSsm:
    """The references by their own names. They compute in float32, except inside `float64()`."""

    ssd_chunk_scan_combined_ref: Reference
    ssd_selective_scan: Reference
    chunk_state_ref: Reference
    state_passing_ref: Reference
    chunk_scan_ref: Reference
    mamba_split_conv1d_scan_ref: Reference
    mamba_inner_ref: Reference
    selective_scan_ref: Reference
    selective_state_update_ref: Reference
    rms_norm_ref: Reference
    causal_conv1d_ref: Reference
    causal_conv1d_update_ref: Reference
    modules: tuple[ModuleType, ...]

    @contextmanager
    def float64(self) -> Iterator[None]:
        """Inside this block the references compute in float64 instead of float32, exactly enough to compare with."""
        wide = ModuleType("torch")
        vars(wide).update(vars(torch), float32=torch.float64)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Tensor, "float", Tensor.double)
            for module in self.modules:
                patched.setattr(module, "torch", wide)
            yield


@pytest.fixture(scope="module")
def mamba_ssm() -> Iterator[MambaSsm]:
    if not DIRECTORY.is_dir():
        missing = f"{DIRECTORY} is not there; make setup installs it"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    with _without(*PACKAGES):
        yield _loaded()


@contextmanager
def _without(*packages: str) -> Iterator[None]:
    """As if these packages had not been loaded yet; afterwards they are as they were before."""

    def take_out() -> dict[str, ModuleType]:
        return {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] in packages}

    before = take_out()
    try:
        yield
    finally:
        take_out()
        sys.modules.update(before)


def _loaded() -> MambaSsm:
    with _without(*STAND_INS), pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(DIRECTORY)
        for module in _stand_ins():
            sys.modules[module.__name__] = module
        ssd = importlib.import_module("mamba_ssm.ops.triton.ssd_combined")
        scan = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
        update = importlib.import_module("mamba_ssm.ops.triton.selective_state_update")
        norm = importlib.import_module("mamba_ssm.ops.triton.layernorm_gated")
        conv = importlib.import_module("causal_conv1d.causal_conv1d_interface")
        parts = [
            importlib.import_module(f"mamba_ssm.ops.triton.{name}") for name in ("ssd_chunk_state", "ssd_chunk_scan")
        ]

    # The references of whole blocks call kernels of their parts. These calls get references, too.
    scan.selective_scan_fn = scan.selective_scan_ref
    scan.causal_conv1d_fn = ssd.causal_conv1d_fn = conv.causal_conv1d_ref

    def whole_block(*arguments: Any, rmsnorm_weight: Tensor, ngroups: int, **settings: Any) -> Tensor:
        # The kernel normalises each group separately. Its reference does not.
        ssd.rmsnorm_fn = partial(norm.rms_norm_ref, group_size=rmsnorm_weight.numel() // ngroups)
        settings |= {"rmsnorm_weight": rmsnorm_weight, "ngroups": ngroups}
        return ssd.mamba_split_conv1d_scan_ref(*arguments, **settings)

    return MambaSsm(
        ssd_chunk_scan_combined_ref=ssd.ssd_chunk_scan_combined_ref,
        ssd_selective_scan=ssd.ssd_selective_scan,
        chunk_state_ref=ssd.chunk_state_ref,
        state_passing_ref=ssd.state_passing_ref,
        chunk_scan_ref=ssd.chunk_scan_ref,
        mamba_split_conv1d_scan_ref=whole_block,
        mamba_inner_ref=scan.mamba_inner_ref,
        selective_scan_ref=scan.selective_scan_ref,
        selective_state_update_ref=update.selective_state_update_ref,
        rms_norm_ref=norm.rms_norm_ref,
        causal_conv1d_ref=conv.causal_conv1d_ref,
        causal_conv1d_update_ref=conv.causal_conv1d_update_ref,
        modules=(ssd, scan, update, norm, conv, *parts),
    )


def _stand_ins() -> Iterator[ModuleType]:
    """Stand-ins for modules that only kernels need, enough to import the files with kernels and references."""

    def module(name: str, **contents: Any) -> ModuleType:
        made = ModuleType(name)
        vars(made).update(contents)
        return made

    yield module("mamba_ssm", __path__=[str(DIRECTORY / "mamba_ssm")])  # its own __init__ imports all its models
    yield module("selective_scan_cuda")
    kernels = ("fwd", "bwd", "update")
    yield module("causal_conv1d.cpp_functions", **{f"causal_conv1d_{kernel}_function": None for kernel in kernels})
    yield (language := module("triton.language", constexpr=None))
    yield module(
        "triton",
        __version__="3.5.0",
        language=language,
        jit=lambda kernel: kernel,
        heuristics=lambda values: lambda kernel: kernel,
        autotune=lambda configs, key: lambda kernel: SimpleNamespace(configs=configs),
        Config=lambda kwargs, num_stages=0, num_warps=0, pre_hook=None: SimpleNamespace(
            kwargs=kwargs, num_warps=num_warps
        ),
    )
