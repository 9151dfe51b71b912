"""Mamba-2's scan by the compiled library, as an operator of PyTorch: `ssd.cpp`, with the equations in `chunk.h`."""

from typing import Any

import torch
from torch import Tensor

from diffmamba.ops.cpu.library import call, dense
from diffmamba.ops.cpu.mamba2 import Sizes, chunk_of, kept_numbers


@torch.library.custom_op("diffmamba::ssd", mutates_args=())
def ssd(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor | None, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """y, the final state and, if `keep`, the states before all chunks. All in float32; shapes as in `ops/ssd.py`."""
    sizes, final = _sizes(x, B), _final(x, B)
    x, dt, A, B, C, D, state = dense(x, dt, A, B, C, D, state)
    y, states = torch.empty_like(x), x.new_empty(_kept(x, B) if keep else 0)
    call("diffmamba_ssd_forward", sizes, x, dt, A, B, C, D, state, y, final, states if keep else None)
    return y, final, states


@torch.library.custom_op("diffmamba::ssd_gradient", mutates_args=())
def ssd_gradient(
    dy: Tensor,
    dfinal: Tensor | None,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    states: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of x, dt, B, C and of the initial state, and those of A and D in one vector."""
    dy, dfinal, x, dt, A, B, C, D = dense(dy, dfinal, x, dt, A, B, C, D)
    dx, ddt, dB, dC = (torch.empty_like(tensor) for tensor in (x, dt, B, C))
    dstate, total = _final(x, B), x.new_empty(2 * A.shape[0])
    wanted = (dx, ddt, dB, dC, dstate, total)
    call("diffmamba_ssd_backward", _sizes(x, B), dy, dfinal, x, dt, A, B, C, D, states, *wanted)
    return wanted


def _sizes(x: Tensor, B: Tensor) -> Any:
    batch, length, heads, headdim = x.shape
    groups, state = B.shape[2:]
    return Sizes(batch, length, heads, groups, headdim, state, 0, chunk_of(state, length), torch.get_num_threads())


def _kept(x: Tensor, B: Tensor) -> int:
    batch, length, heads, headdim = x.shape
    return kept_numbers(batch, length, heads, headdim, B.shape[3])[0]


def _final(x: Tensor, B: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], *x.shape[2:], B.shape[3])


@ssd.register_fake
def _(x, dt, A, B, C, D, state, keep):
    return x.new_empty(x.shape), _final(x, B), x.new_empty(_kept(x, B) if keep else 0)


@ssd_gradient.register_fake
def _(dy, dfinal, x, dt, A, B, C, D, states):
    gradients = (tensor.new_empty(tensor.shape) for tensor in (x, dt, B, C))
    return *gradients, _final(x, B), x.new_empty(2 * A.shape[0])


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, state, _ = inputs
    ctx.from_state = state is not None
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[2])
    ctx.save_for_backward(*tensors, output[2])


def _backward(ctx: Any, dy: Tensor | None, dfinal: Tensor | None, _: Any) -> tuple[Any, ...]:
    saved = ctx.saved_tensors  # once: checkpointing computes them again
    x = saved[0]
    dy = x.new_zeros(x.shape) if dy is None else dy
    dx, ddt, dB, dC, dstate, total = ssd_gradient(dy, dfinal, *saved)
    dA, dD = total.chunk(2)
    return dx, ddt, dA, dB, dC, dD, dstate if ctx.from_state else None, None


ssd.register_autograd(_backward, setup_context=_setup_context)
