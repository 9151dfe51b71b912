"""One position of Mamba-1 and of Mamba-2 by the compiled library: `step_mamba1.cpp` and `step_mamba2.cpp`.

At batch 1 the time of a step is that of its calls, so the library is called directly. Only where PyTorch has to see an
operator, which is while it traces, the call goes through one.
"""

import ctypes
from ctypes import c_double, c_float, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor

from diffmamba.ops.cpu.library import function

Step = tuple[Tensor, Tensor, Tensor]
"""u, the next state of the convolution, and the next h."""


def _fields(sizes: str, pointers: str) -> list[tuple[str, Any]]:
    """Sizes, then tensors of either type as a pointer and whether it is bfloat16, then pointers to float."""
    either = [(name, kind) for one in ("input", "conv", "u", "next_conv") for name, kind in _either(one)]
    return [*((name, c_int64) for name in sizes.split()), *either, *((name, c_void_p) for name in pointers.split())]


def _either(name: str) -> list[tuple[str, Any]]:
    return [(name, c_void_p), (f"{name}_narrow", c_int64)]


STEP = (c_void_p, c_int64)
DIFFERENCE = (*[c_void_p] * 4, *[c_int64] * 4, *[c_double] * 3)
SMALL = 2**16
"""Products of `difference` below which one thread does all: to wake others takes as long."""


class _Mamba1(ctypes.Structure):
    _fields_ = _fields(
        "batch channels branches states rank width sharing",
        "conv_weight conv_bias x_proj dt_proj dt_bias A_log D state next",
    )


class _Mamba2(ctypes.Structure):
    _fields_ = [
        *_fields(
            "batch heads headdim groups states width sharing",
            "conv_weight conv_bias dt_bias A_log D norm_weight state next",
        ),
        ("epsilon", c_float),
    ]


def mamba2(
    zxBCdt: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    A_log: Tensor,
    D: Tensor,
    norm_weight: Tensor,
    conv_state: Tensor,
    state: Tensor,
    groups: int,
    sharing: int,
    epsilon: float,
) -> Step:
    """As `conv_scan_norm_step`, whose arguments must have been checked: the library cannot."""
    batch, heads, headdim, states = state.shape
    zxBCdt, conv_state, state = _dense(zxBCdt), _dense(conv_state), _wide(state)
    u, next_conv, following = _results(zxBCdt, heads * headdim, norm_weight, conv_state, state)
    parameters = [_wide(one) for one in (conv_weight, conv_bias, dt_bias, A_log, D, norm_weight)]
    mixer = _Mamba2(
        *(batch, heads, headdim, groups, states, conv_state.shape[1] + 1, sharing),
        *_pointers(zxBCdt, conv_state, u, next_conv),
        *(one.data_ptr() for one in (*parameters, state, following)),
        epsilon,
    )
    function("mamba2_step", *STEP)(ctypes.addressof(mixer), torch.get_num_threads())
    return u, next_conv, following


def mamba1(
    xz: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    x_proj: Tensor,
    dt_proj: Tensor,
    dt_bias: Tensor,
    A_log: Tensor,
    D: Tensor,
    conv_state: Tensor,
    state: Tensor,
    branches: int,
    sharing: int,
) -> Step:
    """As `conv_selective_scan_step`, whose arguments must have been checked: the library cannot."""
    batch, channels, states = state.shape
    xz, conv_state, state = _dense(xz), _dense(conv_state), _wide(state)
    u, next_conv, following = _results(xz, channels, D, conv_state, state)
    parameters = [_wide(one) for one in (conv_weight, conv_bias, x_proj, dt_proj, dt_bias, A_log, D)]
    mixer = _Mamba1(
        *(batch, channels, branches, states, dt_proj.shape[1], conv_state.shape[1] + 1, sharing),
        *_pointers(xz, conv_state, u, next_conv),
        *(one.data_ptr() for one in (*parameters, state, following)),
    )
    function("mamba1_step", *STEP)(ctypes.addressof(mixer), torch.get_num_threads())
    return u, next_conv, following


def difference(
    u: Tensor, weight: Tensor | None, gain: Tensor | None, second: float, scale: float, epsilon: float
) -> Tensor:
    """As `difference_step`, whose arguments must have been checked: the library cannot."""
    (rows, both), outputs = u.shape, u.shape[1] // 2 if weight is None else weight.shape[0]
    y = u.new_empty(rows, outputs)
    given = [None if one is None else _dense(one) for one in (u, weight, gain)]
    pointers = [None if one is None else one.data_ptr() for one in (*given, y)]
    threads = 1 if rows * outputs * both < SMALL else torch.get_num_threads()
    function("difference_step", *DIFFERENCE)(*pointers, rows, both // 2, outputs, threads, second, scale, epsilon)
    return y


def _dense(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_contiguous() else tensor.contiguous()


def _wide(tensor: Tensor) -> Tensor:
    return _dense(tensor if tensor.dtype == torch.float32 else tensor.float())


def _pointers(*tensors: Tensor) -> list[int]:
    return [number for one in tensors for number in (one.data_ptr(), one.dtype == torch.bfloat16)]


def _results(given: Tensor, inner: int, weight: Tensor, conv_state: Tensor, state: Tensor) -> Step:
    """Memory for the results; their types are those that PyTorch's operators would give."""
    u = given.new_empty(state.shape[0], inner)
    next_conv = torch.empty_like(conv_state)
    if given.dtype != weight.dtype:
        u = u.to(torch.promote_types(given.dtype, weight.dtype))
    if given.dtype != conv_state.dtype:
        next_conv = next_conv.to(torch.promote_types(given.dtype, conv_state.dtype))
    return u, next_conv, torch.empty_like(state)


mamba2_operator = torch.library.custom_op("diffmamba::mamba2_step", mamba2, mutates_args=())
mamba1_operator = torch.library.custom_op("diffmamba::mamba1_step", mamba1, mutates_args=())


@mamba2_operator.register_fake
def _(zxBCdt, conv_weight, conv_bias, dt_bias, A_log, D, norm_weight, conv_state, state, groups, sharing, epsilon):
    return _results(zxBCdt, state.shape[1] * state.shape[2], norm_weight, conv_state, state.float().contiguous())


@mamba1_operator.register_fake
def _(xz, conv_weight, conv_bias, x_proj, dt_proj, dt_bias, A_log, D, conv_state, state, branches, sharing):
    return _results(xz, state.shape[1], D, conv_state, state.float().contiguous())
