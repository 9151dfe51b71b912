"""The causal depthwise convolution before the scan: `y[t] = silu(bias + Σ_k weight[k] · x[t - width + 1 + k])`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diffmamba.ops import backend
from diffmamba.ops.checks import check


def causal_conv_sequential(x: Tensor, weight: Tensor, bias: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The definition: one step after the other. Shapes as in `causal_conv`."""
    outputs = []
    for t in range(x.shape[1]):
        y, state = causal_conv_step(x[:, t], weight, bias, state)
        outputs.append(y)
    return torch.stack(outputs, dim=1), state


def causal_conv_step(x: Tensor, weight: Tensor, bias: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One position: x `(batch, channels)`, state `(batch, width - 1, channels)`; returns y and the next state."""
    window = torch.cat([state, x[:, None]], dim=1)
    return F.silu((window * weight.T).sum(dim=1) + bias), window[:, 1:]


def causal_conv(x: Tensor, weight: Tensor, bias: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """All positions at once.

    Args:
        x: `(batch, length, channels)`, any length of at least 1.
        weight: `(channels, width)`; `weight[:, -1]` multiplies the present.
        bias: `(channels,)`.
        state: the `width - 1` inputs before x, `(batch, width - 1, channels)`; zeros if None.

    Returns:
        y `(batch, length, channels)` and the state after the last position.
    """
    check(
        "causal_conv",
        ("x", x, "batch length channels"),
        ("weight", weight, "channels width"),
        ("bias", bias, "channels"),
        ("the state", state, "batch past channels"),
        past=weight.shape[-1] - 1,
    )
    if kernel := _fitting_kernel(x, weight):
        return _cuda(kernel, x, weight, bias, state)
    if state is None:
        state = x.new_zeros(x.shape[0], weight.shape[1] - 1, x.shape[2])
    padded = torch.cat([state, x], dim=1)
    return F.silu(_ShiftedSum.apply(padded, weight, bias)), padded[:, x.shape[1] :]


def _fitting_kernel(x: Tensor, weight: Tensor) -> Callable[..., Any] | None:
    """causal-conv1d's kernel, which takes widths 2 to 4 and channels in eights."""
    return backend.kernel("conv", x) if 2 <= weight.shape[1] <= 4 and x.shape[2] % 8 == 0 else None


def _cuda(
    kernel: Callable[..., Any], x: Tensor, weight: Tensor, bias: Tensor, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """causal-conv1d's `causal_conv1d_fn`, which takes channels before length, in memory as they are here."""
    if x.stride(2) != 1 or any(n % 8 for n in (x.stride(0), x.stride(1), x.storage_offset())):  # it loads eights
        x = x.contiguous()
    past = weight.shape[1] - 1
    before = x.new_zeros(x.shape[0], past, x.shape[2]) if state is None else state.to(x.dtype)
    initial = None if state is None else before.contiguous().mT
    y = kernel(x.mT, weight, bias, initial_states=initial, activation="silu")
    return y.mT, torch.cat([before, x[:, -past:]], dim=1)[:, -past:]


class _ShiftedSum(torch.autograd.Function):
    """`y[t] = bias + Σ_k weight[k] · padded[t + k]`, channels last, as one pass over memory per tap.

    A depthwise convolution has four multiplications for each number it reads, so memory is what it costs. The library
    one wants channels first and pays two transpositions each way: 6 ms against 3 ms here, forward and backward, for
    16 × 128 positions and 160 channels on one CPU core.
    """

    @staticmethod
    def forward(ctx: Any, padded: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(padded, weight)
        width = weight.shape[1]
        length = padded.shape[1] - width + 1
        taps = weight.T.contiguous()
        y = torch.addcmul(bias, padded[:, :length], taps[0])
        for k in range(1, width):
            y.addcmul_(padded[:, k : k + length], taps[k])
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        padded, weight = ctx.saved_tensors
        width = weight.shape[1]
        length = dy.shape[1]
        taps = weight.T.contiguous()
        dpadded = torch.zeros_like(padded)
        dtaps = torch.empty_like(taps)
        for k in range(width):
            dpadded[:, k : k + length].addcmul_(dy, taps[k])
            dtaps[k] = (dy * padded[:, k : k + length]).sum((0, 1))
        return dpadded, dtaps.T, dy.sum((0, 1))
