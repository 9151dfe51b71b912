"""A pytest plugin for a process of its own, in which the kernels of mamba-ssm and causal-conv1d run on a CPU.

The Triton kernels are the real ones, run by Triton's interpreter ($TRITON_INTERPRET=1). The two compiled modules have
stand-ins, which check memory layouts as the kernels do and then call their packages' own definitions in PyTorch.
`test_ops_kernels.py` starts the process and says where the packages lie.
"""

import contextlib
import sys
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from triton.runtime.autotuner import Autotuner
from triton.runtime.interpreter import interpreter_builder

from diffmamba.ops import backend, cuda

VECTOR = 8  # numbers that causal-conv1d loads at a time in the layout with channels last
CHUNK = 16
"""For short inputs of several chunks. The interpreter takes 10 seconds for one chunk of 256 positions."""
CALLED: list[str] = []
"""The names of the kernels called by the current test."""


def pytest_configure() -> None:
    Autotuner.__init__ = with_one_configuration(Autotuner.__init__)
    # without checks of every address, which take half of the time
    interpreter_builder.options = replace(interpreter_builder.options, sanitize_overflow=False)
    torch.cuda.device = lambda *_: contextlib.nullcontext()
    torch.cuda.get_device_properties = lambda *_: SimpleNamespace(multi_processor_count=4)
    sys.modules["transformers"] = None  # type: ignore[assignment]  # mamba-ssm's models, slow to import, then fail
    sys.modules["selective_scan_cuda"] = module("selective_scan_cuda", fwd=scan, bwd=scan_gradient)
    sys.modules["causal_conv1d_cuda"] = module("causal_conv1d_cuda")
    sys.modules["causal_conv1d.cpp_functions"] = module(
        "causal_conv1d.cpp_functions",
        causal_conv1d_fwd_function=conv,
        causal_conv1d_bwd_function=conv_gradient,
        causal_conv1d_update_function=None,
    )
    backend.kernel = kernel
    backend.compiled = lambda tensor: None
    for name in ("diffmamba.ops.ssd", "diffmamba.ops.fused"):
        sys.modules[name].CUDA_CHUNK = CHUNK


@pytest.fixture(autouse=True)
def called() -> list[str]:
    CALLED.clear()
    return CALLED


def module(name: str, **contents: Any) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(contents)
    return made


def with_one_configuration(init: Callable[..., None]) -> Callable[..., None]:
    """Of several configurations the autotuner would choose by time, on a GPU."""

    def shortened(self: Autotuner, function: Any, names: list[str], configurations: list[Any], *rest: Any, **more: Any):
        init(self, function, names, configurations[-1:], *rest, **more)

    return shortened


def kernel(name: str, tensor: Tensor) -> Callable[..., Any] | None:
    """As `backend.kernel` on a CUDA device."""
    if backend._requested not in ("auto", "cuda") or tensor.dtype == torch.float64:
        return None
    found = cuda.load(name)
    assert not isinstance(found, str), found

    def call(*arguments: Any, **settings: Any) -> Any:
        CALLED.append(name)
        with torch.autocast("cpu", enabled=False):
            return found(*arguments, **settings)

    return call


def gradients(function: Callable[..., Tensor], inputs: list[Tensor], towards: Tensor) -> tuple[Tensor, ...]:
    with torch.enable_grad():
        leaves = [tensor.detach().requires_grad_() for tensor in inputs]
        return torch.autograd.grad(function(*leaves), leaves, towards)


# --- the stand-in of selective_scan_cuda


def scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus):
    from mamba_ssm.ops.selective_scan_interface import selective_scan_ref

    batch, channels, length = u.shape
    assert (z, delta_bias, delta_softplus) == (None, None, False)
    assert delta.shape == u.shape
    assert A.shape == (channels, B.shape[2])
    assert D.shape == (channels,)
    assert B.shape == C.shape == (batch, B.shape[1], A.shape[1], length)
    assert channels % B.shape[1] == 0
    assert delta.dtype == B.dtype == C.dtype == u.dtype
    assert A.dtype == D.dtype == torch.float32
    assert all(tensor.stride(-1) == 1 or length == 1 for tensor in (u, delta, B, C))
    out, final = selective_scan_ref(u, delta, A, B, C, D, return_last_state=True)
    return out, torch.stack([final, final], dim=-1).flatten(-2)[:, :, None]


def scan_gradient(u, delta, A, B, C, D, z, delta_bias, dout, x, out, dz, delta_softplus, recompute_out_z):
    from mamba_ssm.ops.selective_scan_interface import selective_scan_ref

    return *gradients(selective_scan_ref, [u, delta, A, B, C, D], dout), None


# --- the stand-in of causal_conv1d_cuda


def conv(x, weight, bias, seq_idx, initial_states, final_states_out, silu_activation):
    from causal_conv1d.causal_conv1d_interface import causal_conv1d_ref

    batch, channels, _ = x.shape
    assert (seq_idx, final_states_out, silu_activation) == (None, None, True)
    assert weight.shape == (channels, weight.shape[1])
    assert 2 <= weight.shape[1] <= 4
    assert bias.shape == (channels,)
    assert bias.dtype == weight.dtype
    assert_vectors(x)
    if initial_states is not None:
        assert initial_states.shape == (batch, channels, weight.shape[1] - 1)
        assert initial_states.dtype == x.dtype
        assert initial_states.stride(1) == 1
    out = causal_conv1d_ref(x, weight, bias, initial_states=initial_states, activation="silu")
    return torch.empty_like(x).copy_(out)  # in the layout of x


def conv_gradient(
    x, weight, bias, dout, seq_idx, initial_states, dfinal_states, dx, return_dinitial_states, silu_activation
):
    from causal_conv1d.causal_conv1d_interface import causal_conv1d_ref

    assert (seq_idx, dfinal_states, silu_activation) == (None, None, True)
    assert_vectors(x)
    function = lambda x, weight, bias, state=None: causal_conv1d_ref(x, weight, bias, state, activation="silu")  # noqa: E731
    inputs = [x, weight, bias, *([] if initial_states is None else [initial_states])]
    found = gradients(function, inputs, dout)
    dx = (torch.empty_like(x) if dx is None else dx).copy_(found[0])
    return dx, *found[1:3], found[3] if return_dinitial_states else None


def assert_vectors(x: Tensor) -> None:
    """Channels last, which is the only layout that starts from states, and each load at a multiple of its size."""
    assert x.stride(1) == 1
    assert not any(n % VECTOR for n in (x.shape[1], x.stride(0), x.stride(2), x.storage_offset()))
