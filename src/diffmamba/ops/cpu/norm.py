"""Both norms by the compiled library, with their gradients: `norm.cpp`, with the equations in `norm.h`."""

from typing import Any

import torch
from torch import Tensor

from diffmamba.ops.cpu.library import call, structure
from diffmamba.ops.cpu.mamba2 import suffix
from diffmamba.ops.once import once

_Sizes = structure("Sizes", c_int64="count groups size threads", c_float="epsilon")
SMALL = 2**15
"""Numbers below which one thread does all: to wake a second one costs as much."""


def _sizes(x: Tensor, weight: Tensor, epsilon: float) -> Any:
    *_, size = x.shape
    groups = weight.numel() // size
    threads = 1 if x.numel() < SMALL else torch.get_num_threads()
    return _Sizes(x.numel() // weight.numel(), groups, size, threads, epsilon)


class GatedNorm(torch.autograd.Function):
    """y and z `(..., groups, size)`, both float32 or both bfloat16; weight `(groups, size)` in float32; and ε."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, z: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        y, z, weight = y.contiguous(), z.contiguous(), weight.contiguous()
        ctx.save_for_backward(y, z, weight)
        ctx.epsilon = epsilon
        out = torch.empty_like(y)
        call(f"diffmamba_gated_norm_forward{suffix(y)}", _sizes(y, weight, epsilon), y, z, weight, out)
        return out

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        return *once(_gated_gradient, dout, *ctx.saved_tensors, ctx.epsilon), None


def _gated_gradient(dout: Tensor, y: Tensor, z: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, ...]:
    wanted = tuple(torch.empty_like(tensor) for tensor in (y, z, weight))
    sizes = _sizes(y, weight, epsilon)
    call(f"diffmamba_gated_norm_backward{suffix(y)}", sizes, dout.contiguous(), y, z, weight, *wanted)
    return wanted


class Norm(torch.autograd.Function):
    """x `(..., size)` and weight `(size,)`, both float32; and ε."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        x, weight = x.contiguous(), weight.contiguous()
        ctx.save_for_backward(x, weight)
        ctx.epsilon = epsilon
        out = torch.empty_like(x)
        call("diffmamba_norm_forward", _sizes(x, weight, epsilon), x, weight, out)
        return out

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        return *once(_gradient, dout, *ctx.saved_tensors, ctx.epsilon), None


def _gradient(dout: Tensor, x: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, ...]:
    dx, dweight = torch.empty_like(x), torch.empty_like(weight)
    call("diffmamba_norm_backward", _sizes(x, weight, epsilon), dout.contiguous(), x, weight, dx, dweight)
    return dx, dweight
