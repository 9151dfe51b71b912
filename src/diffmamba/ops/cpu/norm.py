"""Both norms by the compiled library, with their gradients: `norm.cpp`, with the equations in `norm.h`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diffmamba.ops.cpu.library import call, structure, suffix

_Sizes = structure("Sizes", c_int64="count groups size threads", c_float="epsilon")
SMALL = 2**15
"""Numbers below which one thread does all: to wake a second one costs as much."""


def _sizes(x: Tensor, weight: Tensor, epsilon: float) -> Any:
    *_, size = x.shape
    groups = weight.numel() // size
    threads = 1 if x.numel() < SMALL else torch.get_num_threads()
    return _Sizes(x.numel() // weight.numel(), groups, size, threads, epsilon)


def gated(y: Tensor, z: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """The gated norm in PyTorch's operators."""
    u = y.float() * F.silu(z.float()) if y.dtype.itemsize < 4 else y * F.silu(z)
    return (F.rms_norm(u, u.shape[-1:], eps=epsilon) * weight).to(y.dtype)


def with_graph(formula: Callable[..., Tensor], dout: Tensor, *inputs: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of a formula as parts of a graph. Second derivatives need it, for which gradients are enabled."""
    own = [one.view_as(one) for one in inputs]  # otherwise, of one that depends on another, its part would count twice
    wanted = [one for one in own if one.requires_grad]
    found = iter(torch.autograd.grad(formula(*own), wanted, dout, create_graph=True))
    return tuple(next(found) if one.requires_grad else None for one in own)


class GatedNorm(torch.autograd.Function):
    """y and z `(..., groups, size)`, both float32 or both bfloat16; weight `(groups, size)` in float32; and ε."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, z: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        ctx.save_for_backward(y, z, weight)
        ctx.epsilon = epsilon
        y, z, weight = y.contiguous(), z.contiguous(), weight.contiguous()
        out = torch.empty_like(y)
        call(f"diffmamba_gated_norm_forward{suffix(y)}", _sizes(y, weight, epsilon), y, z, weight, out)
        return out

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        y, z, weight = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *with_graph(partial(gated, epsilon=ctx.epsilon), dout, y, z, weight), None
        y, z, weight = y.contiguous(), z.contiguous(), weight.contiguous()
        dy, dz, dweight = (torch.empty_like(tensor) for tensor in (y, z, weight))
        sizes = _sizes(y, weight, ctx.epsilon)
        call(f"diffmamba_gated_norm_backward{suffix(y)}", sizes, dout.contiguous(), y, z, weight, dy, dz, dweight)
        return dy, dz, dweight, None


class Norm(torch.autograd.Function):
    """x `(..., size)` and weight `(size,)`, both float32; and ε."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.epsilon = epsilon
        x, weight = x.contiguous(), weight.contiguous()
        out = torch.empty_like(x)
        call("diffmamba_norm_forward", _sizes(x, weight, epsilon), x, weight, out)
        return out

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *with_graph(
                lambda x, weight: F.rms_norm(x, weight.shape, weight, ctx.epsilon), dout, x, weight
            ), None
        x, weight = x.contiguous(), weight.contiguous()
        dx, dweight = torch.empty_like(x), torch.empty_like(weight)
        call("diffmamba_norm_backward", _sizes(x, weight, ctx.epsilon), dout.contiguous(), x, weight, dx, dweight)
        return dx, dweight, None
