"""Calls the compiled Mamba-2 operator, from `zxBCdt` to `u`, and tells PyTorch its gradient.

The equations are in the C++ files beside this one: `conv.h`, `chunk.h` (the scan), `norm.h`; `mamba2.cpp` joins them.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor

from diffmamba.ops.cpu import build

MAX_WIDTH = 16  # of the convolution, as in conv.h


class Sizes(ctypes.Structure):
    """The struct of chunk.h."""

    _fields_ = [
        (name, ctypes.c_int64)
        for name in ("batch", "length", "heads", "groups", "headdim", "state", "width", "chunk", "threads")
    ]


class _Inputs(ctypes.Structure):
    """The struct `Pointers` of mamba2.cpp."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("rows", "past", "taps", "conv_bias", "dt_bias")),
        *((name, ctypes.c_void_p) for name in ("A", "D", "norm_weight", "initial")),
        ("epsilon", ctypes.c_float),
    ]


class Kept(ctypes.Structure):
    """The struct of scan.h."""

    _fields_ = [("states", ctypes.c_void_p), ("y", ctypes.c_void_p)]


def chunk_of(state: int) -> int:
    """Positions in a chunk. A chunk costs the memory of a state, so it is longer where states are larger."""
    return 16 if state <= 32 else 32


def tiles(sizes: Sizes) -> tuple[int, int]:
    """How many numbers of a state, and of a chunk's y, are kept for each head."""
    state, output = ctypes.c_int64(), ctypes.c_int64()
    library().diffmamba_tiles(ctypes.byref(sizes), ctypes.byref(state), ctypes.byref(output))
    return state.value, output.value


def library() -> ctypes.CDLL:
    """The library, which the caller knows to be there."""
    found = build.load()
    assert not isinstance(found, str), found
    return found


def pointer(tensor: Tensor | None) -> int | None:
    """The address of a contiguous tensor."""
    return None if tensor is None else tensor.data_ptr()


@torch.library.custom_op("diffmamba::mamba2", mutates_args=())
def mamba2(
    zxBCdt: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    norm_weight: Tensor,
    past: Tensor | None,
    state: Tensor | None,
    headdim: int,
    groups: int,
    epsilon: float,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """u `(batch, length, inner)`, the final state and, if `keep`, the states and y of every chunk for the gradient.

    zxBCdt and past are float32 or bfloat16, everything else is float32. Shapes as in `fused.conv_scan_norm`.
    """
    sizes = _sizes(zxBCdt, conv_weight, dt_bias, headdim, groups)
    zxBCdt, past, conv_bias, dt_bias, A, D, norm_weight, state = _plain(
        zxBCdt, past, conv_bias, dt_bias, A, D, norm_weight, state
    )
    taps = conv_weight.t().contiguous()
    inputs = _Inputs(*map(pointer, (zxBCdt, past, taps, conv_bias, dt_bias, A, D, norm_weight, state)), epsilon)
    u = zxBCdt.new_empty(sizes.batch, sizes.length, norm_weight.shape[0])
    final = A.new_empty(sizes.batch, sizes.heads, headdim, sizes.state)
    states, y = (A.new_empty(count if keep else 0) for count in _kept(sizes))
    name = f"diffmamba_mamba2_forward{_suffix(zxBCdt)}"
    kept = Kept(pointer(states), pointer(y)) if keep else Kept()
    getattr(library(), name)(*_by_reference(sizes, inputs), *map(_pointer, (u, final)), ctypes.byref(kept))
    return u, final, states, y


@torch.library.custom_op("diffmamba::mamba2_gradient", mutates_args=())
def mamba2_gradient(
    du: Tensor,
    dfinal: Tensor | None,
    zxBCdt: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    norm_weight: Tensor,
    past: Tensor | None,
    state: Tensor | None,
    states: Tensor,
    y: Tensor,
    headdim: int,
    groups: int,
    epsilon: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of zxBCdt, of past and of the state (empty if these are None), and one vector of all others.

    Its parts are those of A, D, dt_bias, norm_weight, of the transposed conv_weight, and of conv_bias.
    """
    sizes = _sizes(zxBCdt, conv_weight, dt_bias, headdim, groups)
    du, dfinal, zxBCdt, past, conv_bias, dt_bias, A, D, norm_weight, state = _plain(
        du, dfinal, zxBCdt, past, conv_bias, dt_bias, A, D, norm_weight, state
    )
    taps = conv_weight.t().contiguous()
    inputs = _Inputs(*map(pointer, (zxBCdt, past, taps, conv_bias, dt_bias, A, D, norm_weight, state)), epsilon)
    dzxBCdt = torch.empty_like(zxBCdt)
    dpast = zxBCdt.new_empty(0 if past is None else past.shape)
    dstate = A.new_empty(0 if state is None else state.shape)
    total = A.new_empty(3 * sizes.heads + norm_weight.numel() + conv_weight.numel() + conv_bias.numel())
    kept = Kept(pointer(states), pointer(y))
    getattr(library(), f"diffmamba_mamba2_backward{_suffix(zxBCdt)}")(
        *_by_reference(sizes, inputs, kept),
        *map(_pointer, (du, dfinal, dzxBCdt)),
        _pointer(None if past is None else dpast),
        _pointer(None if state is None else dstate),
        _pointer(total),
    )
    return dzxBCdt, dpast, dstate, total


def _sizes(zxBCdt: Tensor, conv_weight: Tensor, dt_bias: Tensor, headdim: int, groups: int) -> Sizes:
    batch, length, _ = zxBCdt.shape
    heads = dt_bias.shape[0]
    state = (conv_weight.shape[0] - heads * headdim) // (2 * groups)
    width, threads = conv_weight.shape[1], torch.get_num_threads()
    return Sizes(batch, length, heads, groups, headdim, state, width, chunk_of(state), threads)


def _kept(sizes: Sizes) -> tuple[int, int]:
    """How many numbers the states and y of all chunks are."""
    state, output = tiles(sizes)
    chunks = -(-sizes.length // sizes.chunk)
    each = sizes.batch * sizes.heads
    return each * (chunks + 1) * state, each * chunks * output


def _plain(*tensors: Tensor | None) -> list[Any]:
    return [None if tensor is None else tensor.contiguous() for tensor in tensors]


def _suffix(tensor: Tensor) -> str:
    return "_bfloat16" if tensor.dtype == torch.bfloat16 else ""


def _by_reference(*structures: ctypes.Structure) -> list[Any]:
    return [ctypes.byref(structure) for structure in structures]


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(pointer(tensor))


@mamba2.register_fake
def _(zxBCdt, conv_weight, conv_bias, dt_bias, A, D, norm_weight, past, state, headdim, groups, epsilon, keep):
    batch, length, _ = zxBCdt.shape
    d_state = (conv_weight.shape[0] - norm_weight.shape[0]) // (2 * groups)
    kept = [A.new_empty(0), A.new_empty(0)]
    if keep:
        counts = _kept(_sizes(zxBCdt, conv_weight, dt_bias, headdim, groups))
        kept = [A.new_empty(count) for count in counts]
    final = A.new_empty(batch, A.shape[0], headdim, d_state)
    return zxBCdt.new_empty(batch, length, norm_weight.shape[0]), final, *kept


@mamba2_gradient.register_fake
def _(du, dfinal, zxBCdt, conv_weight, conv_bias, dt_bias, A, D, norm_weight, past, state, *_):
    total = 3 * A.shape[0] + norm_weight.shape[0] + conv_weight.numel() + conv_bias.shape[0]
    return (
        zxBCdt.new_empty(zxBCdt.shape),
        zxBCdt.new_empty(0 if past is None else past.shape),
        A.new_empty(0 if state is None else state.shape),
        A.new_empty(total),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.headdim, ctx.groups, ctx.epsilon, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*output[2:])
    ctx.save_for_backward(*tensors, *output[2:])


def _backward(ctx: Any, du: Tensor | None, dfinal: Tensor | None, *_: Any) -> tuple[Any, ...]:
    zxBCdt, conv_weight, conv_bias, dt_bias, A, D, norm_weight, past, state, _, _ = ctx.saved_tensors
    if du is None:
        du = zxBCdt.new_zeros(*zxBCdt.shape[:2], norm_weight.shape[0])
    dzxBCdt, dpast, dstate, total = mamba2_gradient(
        du.to(zxBCdt.dtype), dfinal, *ctx.saved_tensors, ctx.headdim, ctx.groups, ctx.epsilon
    )
    heads, (channels, width) = A.shape[0], conv_weight.shape
    dA, dD, ddt_bias, dnorm, dtaps, dconv_bias = total.split(
        [heads, heads, heads, norm_weight.shape[0], channels * width, channels]
    )
    return (
        dzxBCdt,
        dtaps.view(width, channels).t(),
        dconv_bias,
        ddt_bias,
        dA,
        dD,
        dnorm,
        None if past is None else dpast,
        None if state is None else dstate,
        *[None] * 4,
    )


mamba2.register_autograd(_backward, setup_context=_setup_context)
