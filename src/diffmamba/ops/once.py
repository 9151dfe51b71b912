"""Gradients that cannot be differentiated again, for operators that are a `torch.autograd.Function`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def once(compute: Callable[..., tuple[Tensor, ...]], *arguments: Any) -> tuple[Tensor, ...]:
    """`compute(*arguments)`, whose own gradient is an error.

    PyTorch's `once_differentiable` makes it an error for `backward`, but `torch.autograd.grad` leaves the part out.
    """
    return _Once.apply(compute, *arguments)


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, compute: Callable[..., tuple[Tensor, ...]], *arguments: Any) -> tuple[Tensor, ...]:
        return compute(*arguments)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor, ...]:
        raise RuntimeError("the norm has first derivatives only; use backend=definition")
