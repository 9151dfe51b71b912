"""What the operators are tested with: each instruction set of this machine, and mamba-ssm's references.

The references are plain PyTorch, which needs neither a GPU nor a compiler (see `benchmarks.references`).
"""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import references
from diffmamba.ops import backend
from diffmamba.ops.cpu import build, library, processor

MODULES = (
    "mamba_ssm.ops.triton.ssd_combined",
    "mamba_ssm.ops.selective_scan_interface",
    "mamba_ssm.ops.triton.selective_state_update",
    "mamba_ssm.ops.triton.layernorm_gated",
    "causal_conv1d.causal_conv1d_interface",
    "mamba_ssm.ops.triton.ssd_chunk_state",
    "mamba_ssm.ops.triton.ssd_chunk_scan",
)

Reference = Callable[..., Any]


@pytest.fixture(params=processor.available() or ("none",))
def instructions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Runs a test once for each instruction set of this machine, with `backend=cpu`: an error where it is not used."""
    compiled = _compiled(request.param)
    if isinstance(compiled, str):
        pytest.skip(compiled)
    monkeypatch.setattr(build, "load", lambda: compiled)
    library.function.cache_clear()
    with backend.use("cpu"):
        yield request.param
    library.function.cache_clear()


@pytest.fixture
def nan_in_new_memory() -> Iterator[None]:
    """PyTorch fills memory that nothing has been written to with NaN, so results that are left out are seen."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@cache
def _compiled(instructions: str) -> ctypes.CDLL | str:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(processor.VARIABLE, instructions)
        return build._load.__wrapped__()


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
    if not references.DIRECTORY.is_dir():
        missing = f"{references.DIRECTORY} is not there; make setup installs it"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    with references.imported(*MODULES) as modules:
        yield _of(*modules)


def _of(ssd: Any, scan: Any, update: Any, norm: Any, conv: Any, *parts: ModuleType) -> MambaSsm:
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
