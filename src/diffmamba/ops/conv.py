"""The causal depthwise convolution before the scan: `y[t] = silu(bias + Σ_k weight[k] · x[t - width + 1 + k])`."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diffmamba.ops import backend
from diffmamba.ops.checks import check
from diffmamba.ops.cpu.conv import conv
from diffmamba.ops.cpu.mamba2 import MAX_WIDTH


def causal_conv_sequential(x: Tensor, weight: Tensor, bias: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The definition, one position at a time. Shapes as in `causal_conv`."""
    outputs = []
    for t in range(x.shape[1]):
        y, state = causal_conv_step(x[:, t], weight, bias, state)
        outputs.append(y)
    return torch.stack(outputs, dim=1), state


def causal_conv_step(x: Tensor, weight: Tensor, bias: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One position: x `(batch, channels)`, state `(batch, width - 1, channels)`. Returns y and the next state."""
    window = torch.cat([state, x[:, None]], dim=1)
    return F.silu((window * weight.T).sum(dim=1) + bias), window[:, 1:]


def causal_conv(x: Tensor, weight: Tensor, bias: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """All positions at once. First derivatives only.

    Args:
        x: `(batch, length, channels)`, any length of at least 1.
        weight: `(channels, width)`; `weight[:, -1]` multiplies the current position.
        bias: `(channels,)`.
        state: the `width - 1` inputs before x, `(batch, width - 1, channels)`; zeros if None.

    Returns:
        y `(batch, length, channels)` and the state after the last position.

    Raises:
        ValueError: if shapes, dtypes or devices do not fit.
    """
    check(
        "causal_conv",
        ("x", x, "batch length channels"),
        ("weight", weight, "channels width"),
        ("bias", bias, "channels"),
        ("the state", state, "batch past channels"),
        past=(0 if weight is None else weight.shape[-1:].numel()) - 1,
    )
    if backend.by_definition():
        return causal_conv_sequential(x, weight, bias, _zeros(x, weight) if state is None else state)
    wide = any(tensor is not None and tensor.dtype == torch.float64 for tensor in (weight, bias, state))
    if weight.shape[1] <= MAX_WIDTH and backend.compiled(x) and not wide:
        dtype = torch.promote_types(x.dtype, weight.dtype)
        given = x if state is None else x.to(torch.promote_types(x.dtype, state.dtype))
        past = None if state is None else state.to(given.dtype)
        y = conv(given, weight.float(), bias.float(), past, torch.promote_types(given.dtype, dtype)).to(dtype)
        return y, next_state(_zeros(x, weight) if state is None else state, x)
    if kernel_takes(weight) and (kernel := backend.kernel("conv", x)):
        return _cuda(kernel, x, weight, bias, state)
    if state is None:
        state = _zeros(x, weight)
    y, _ = _convolve(x, weight, bias, state)
    return y, next_state(state, x)


def _zeros(x: Tensor, weight: Tensor) -> Tensor:
    return x.new_zeros(x.shape[0], weight.shape[1] - 1, x.shape[2])


def next_state(state: Tensor, x: Tensor) -> Tensor:
    """The last inputs of the convolution after x `(batch, length, channels)`; state is the one before."""
    recent = x[:, max(0, x.shape[1] - state.shape[1]) :]
    return torch.cat([state[:, recent.shape[1] :], recent], dim=1)


def kernel_takes(weight: Tensor) -> bool:
    """Whether causal-conv1d supports a weight `(channels, width)`: widths 2 to 4, and a multiple of 8 channels."""
    return weight.shape[0] % 8 == 0 and 2 <= weight.shape[1] <= 4


def _cuda(
    kernel: Callable[..., Any], x: Tensor, weight: Tensor, bias: Tensor, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Calls causal-conv1d's `causal_conv1d_fn`. Its shapes have channels before length; in memory they stay last."""
    if x.stride(2) != 1 or any(n % 8 for n in (x.stride(0), x.stride(1), x.storage_offset())):  # it loads 8 at once
        x = x.contiguous()
    initial = None if state is None else state.to(x.dtype).contiguous().mT
    y = kernel(x.mT, weight, bias, initial_states=initial, activation="silu")
    if state is None:
        state = _zeros(x, weight)
    return y.mT, next_state(state, x)


@torch.library.custom_op("diffmamba::causal_conv", mutates_args=())
def _convolve(x: Tensor, weight: Tensor, bias: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """y and its value before the silu, with one pass over memory for each tap of the filter.

    A depthwise convolution does only four multiplications for each number it reads, so memory access decides its speed.
    PyTorch's own convolution needs channels first, which costs two transpositions in each direction. Forward and
    backward of 2048 positions of 640 channels take 24 ms with it on one CPU core, 33 ms compiled by `torch.compile`,
    and 13 ms here.
    """
    taps = weight.T.contiguous()
    before = torch.addcmul(bias, x, taps[-1], out=_before(x, weight))
    for delay, now, head in _delays(x, taps):
        before[:, delay:].addcmul_(x[:, :now], taps[-1 - delay])
        before[:, :head].addcmul_(state[:, state.shape[1] - delay : state.shape[1] - delay + head], taps[-1 - delay])
    return F.silu(before), before


@torch.library.custom_op("diffmamba::causal_conv_gradient", mutates_args=())
def _convolve_gradient(
    dy: Tensor, x: Tensor, weight: Tensor, state: Tensor, before: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of x, weight, bias and state."""
    taps = weight.T.contiguous()
    d = torch.ops.aten.silu_backward(dy.to(before.dtype), before)
    dx = torch.mul(d, taps[-1], out=torch.empty_like(x, dtype=d.dtype))
    dstate, dtaps = torch.zeros_like(state, dtype=d.dtype), torch.empty_like(taps)
    product = d * x
    dtaps[-1] = product.sum((0, 1))
    for delay, now, head in _delays(x, taps):
        tap, past = -1 - delay, slice(state.shape[1] - delay, state.shape[1] - delay + head)
        dx[:, :now].addcmul_(d[:, delay:], taps[tap])
        dstate[:, past].addcmul_(d[:, :head], taps[tap])
        torch.mul(d[:, delay:], x[:, :now], out=product[:, delay:])
        torch.mul(d[:, :head], state[:, past], out=product[:, :head])
        dtaps[tap] = product.sum((0, 1))
    return dx.to(x.dtype), dtaps.T.contiguous(), d.sum((0, 1)).to(weight.dtype), dstate.to(state.dtype)


def _before(x: Tensor, weight: Tensor) -> Tensor:
    return torch.empty_like(x, dtype=torch.promote_types(x.dtype, weight.dtype))


def _delays(x: Tensor, taps: Tensor) -> Iterator[tuple[int, int, int]]:
    """For each tap on the past: its delay, the number of positions that read x, and the number that read the state."""
    for delay in range(1, len(taps)):
        head = min(delay, x.shape[1])
        yield delay, x.shape[1] - head, head


def _setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, _, state = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(x, weight, state, output[1])


def _backward(ctx: Any, dy: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
    return (None,) * 4 if dy is None else _convolve_gradient(dy, *ctx.saved_tensors)


@_convolve.register_fake
def _(x, weight, bias, state):
    return _before(x, weight), _before(x, weight)


@_convolve_gradient.register_fake
def _(dy, x, weight, state, before):
    return torch.empty_like(x), weight.new_empty(weight.shape), weight.new_empty(len(weight)), torch.empty_like(state)


_convolve.register_autograd(_backward, setup_context=_setup_context)
