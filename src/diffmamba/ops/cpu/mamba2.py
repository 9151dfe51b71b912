"""Calls the compiled Mamba-2 operator, from `zxBCdt` to `u`, and tells PyTorch its gradient.

The equations are in the C++ files beside this one: `conv.h`, `chunk.h` (the scan), `norm.h`; `mamba2.cpp` joins them.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor

from diffmamba.ops.cpu.library import call, dense, pointer, structure, suffix

MAX_WIDTH = 16  # of the convolution, as in conv.h

Sizes = structure("Sizes", c_int64="batch length heads groups headdim state width chunk threads")
Kept = structure("Kept", c_void_p="states y")
_Inputs = structure("Inputs", c_void_p="rows past taps conv_bias dt_bias A D norm_weight initial", c_float="epsilon")


def chunk_of(state: int, length: int) -> int:
    """Positions in a chunk: 16, 32 or 64.

    The fastest that was measured; a chunk keeps a state for the gradient, so it is longer where states are larger. A
    short sequence gets no longer chunk than it fills.
    """
    return next(chunk for chunk in (16, 32, 64) if chunk >= min(length, 32 if state <= 32 else 64))


def kept_numbers(batch: int, length: int, heads: int, headdim: int, state: int) -> tuple[int, int]:
    """How many numbers the states before all chunks are, and the y of all chunks, as tiles of the library.

    Only the last two must be known while `torch.compile` traces: for the others a graph takes any number.
    """
    chunk, of_state, of_output = chunk_of(state, length), ctypes.c_int64(), ctypes.c_int64()
    call("diffmamba_tiles", Sizes(headdim=int(headdim), state=int(state), chunk=chunk), of_state, of_output)
    chunks = -(-length // chunk)
    return batch * heads * (chunks + 1) * of_state.value, batch * heads * chunks * of_output.value


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
    zxBCdt, past, conv_bias, dt_bias, A, D, norm_weight, state = dense(
        zxBCdt, past, conv_bias, dt_bias, A, D, norm_weight, state
    )
    taps = conv_weight.t().contiguous()
    inputs = _Inputs(*map(pointer, (zxBCdt, past, taps, conv_bias, dt_bias, A, D, norm_weight, state)), epsilon)
    u = zxBCdt.new_empty(sizes.batch, sizes.length, norm_weight.shape[0])
    final = A.new_empty(sizes.batch, sizes.heads, headdim, sizes.state)
    counts = kept_numbers(sizes.batch, sizes.length, sizes.heads, headdim, sizes.state)
    states, y = (A.new_empty(count if keep else 0) for count in counts)
    kept = Kept(pointer(states), pointer(y)) if keep else Kept()
    call(f"diffmamba_mamba2_forward{suffix(zxBCdt)}", sizes, inputs, u, final, kept)
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
    du, dfinal, zxBCdt, past, conv_bias, dt_bias, A, D, norm_weight, state = dense(
        du, dfinal, zxBCdt, past, conv_bias, dt_bias, A, D, norm_weight, state
    )
    taps = conv_weight.t().contiguous()
    inputs = _Inputs(*map(pointer, (zxBCdt, past, taps, conv_bias, dt_bias, A, D, norm_weight, state)), epsilon)
    dzxBCdt = torch.empty_like(zxBCdt)
    dpast = zxBCdt.new_empty(0 if past is None else past.shape)
    dstate = A.new_empty(0 if state is None else state.shape)
    total = A.new_empty(3 * sizes.heads + norm_weight.numel() + conv_weight.numel() + conv_bias.numel())
    kept = Kept(pointer(states), pointer(y))
    wanted = (dzxBCdt, None if past is None else dpast, None if state is None else dstate, total)
    call(f"diffmamba_mamba2_backward{suffix(zxBCdt)}", sizes, inputs, kept, du, dfinal, *wanted)
    return dzxBCdt, dpast, dstate, total


def _sizes(zxBCdt: Tensor, conv_weight: Tensor, dt_bias: Tensor, headdim: int, groups: int) -> Any:
    batch, length, _ = zxBCdt.shape
    heads = dt_bias.shape[0]
    state = (conv_weight.shape[0] - heads * headdim) // (2 * groups)
    width, threads = conv_weight.shape[1], torch.get_num_threads()
    return Sizes(batch, length, heads, groups, headdim, state, width, chunk_of(state, length), threads)


@mamba2.register_fake
def _(zxBCdt, conv_weight, conv_bias, dt_bias, A, D, norm_weight, past, state, headdim, groups, epsilon, keep):
    batch, length, _ = zxBCdt.shape
    d_state = (conv_weight.shape[0] - norm_weight.shape[0]) // (2 * groups)
    counts = kept_numbers(batch, length, A.shape[0], headdim, d_state) if keep else (0, 0)
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
    saved = ctx.saved_tensors  # once: checkpointing computes them again
    zxBCdt, conv_weight, _, _, A, _, norm_weight, past, state, _, _ = saved
    if du is None:
        du = zxBCdt.new_zeros(*zxBCdt.shape[:2], norm_weight.shape[0])
    dzxBCdt, dpast, dstate, total = mamba2_gradient(
        du.to(zxBCdt.dtype), dfinal, *saved, ctx.headdim, ctx.groups, ctx.epsilon
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
