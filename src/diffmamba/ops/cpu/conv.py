"""The causal convolution by the compiled library, as an operator of PyTorch: `conv.cpp`, the equation in `conv.h`."""

from typing import Any

import torch
from torch import Tensor

from diffmamba.ops.cpu.library import call, structure

_Sizes = structure("Sizes", c_int64="batch length channels width x_batch_step x_step threads")


@torch.library.custom_op("diffmamba::conv", mutates_args=())
def conv(x: Tensor, weight: Tensor, bias: Tensor, past: Tensor | None, dtype: torch.dtype) -> Tensor:
    """y of this dtype. x and past are float32 or bfloat16, y too or float32, weight and bias float32."""
    x, past, taps, bias = _laid_out(x, past, weight, bias)
    y = x.new_empty(x.shape, dtype=dtype)
    call(f"diffmamba_conv_forward{_suffix(x, y)}", _sizes(x, weight), x, past, taps, bias, y)
    return y


@torch.library.custom_op("diffmamba::conv_gradient", mutates_args=())
def conv_gradient(
    dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor, past: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x and past (empty if it is None), and those of the transposed weight and of bias in a vector."""
    dy, (x, past, taps, bias) = dy.contiguous(), _laid_out(x, past, weight, bias)
    dx, dpast, total = _gradients(x, weight, past)
    wanted = (dx, None if past is None else dpast, total)
    call(f"diffmamba_conv_backward{_suffix(x, dy)}", _sizes(x, weight), dy, x, past, taps, bias, *wanted)
    return dx, dpast, total


def _laid_out(x: Tensor, past: Tensor | None, weight: Tensor, bias: Tensor) -> tuple[Any, ...]:
    """x may be columns of wider rows; everything else is contiguous."""
    x = x if x.stride(-1) == 1 else x.contiguous()
    return x, past if past is None else past.contiguous(), weight.t().contiguous(), bias.contiguous()


def _sizes(x: Tensor, weight: Tensor) -> Any:
    return _Sizes(*x.shape, weight.shape[1], x.stride(0), x.stride(1), torch.get_num_threads())


def _suffix(x: Tensor, y: Tensor) -> str:
    if x.dtype == torch.float32:
        return ""
    return "_bfloat16" if y.dtype == torch.bfloat16 else "_bfloat16_to_float"


def _gradients(x: Tensor, weight: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    total = weight.new_empty(weight.numel() + weight.shape[0])
    return x.new_empty(x.shape), x.new_empty(0 if past is None else past.shape), total


@conv.register_fake
def _(x, weight, bias, past, dtype):
    return x.new_empty(x.shape, dtype=dtype)


@conv_gradient.register_fake
def _(dy, x, weight, bias, past):
    return _gradients(x, weight, past)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.dtype = inputs[-1]
    ctx.save_for_backward(*inputs[:-1])


def _backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    x, weight, bias, past = ctx.saved_tensors
    dx, dpast, total = conv_gradient(dy.to(ctx.dtype), x, weight, bias, past)
    dtaps, dbias = total.split([weight.numel(), bias.numel()])
    return dx, dtaps.view(weight.shape[::-1]).t(), dbias, None if past is None else dpast, None


conv.register_autograd(_backward, setup_context=_setup_context)
