"""The two things that are timed of any function: forward, without a graph, and forward with backward to every leaf."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from benchmarks.timing import Call

MODES = ("forward", "forward+backward")
JUDGED = "forward+backward"  # the mode that targets are for


def precision(device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 autocast on a GPU, float32 on a CPU."""
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()


def passes(function: Callable[..., Tensor | Sequence[Tensor]], *inputs: Tensor) -> dict[str, Call]:
    """Both modes of a function (or module) of some inputs, as calls without arguments.

    Backward starts from fixed gradients of the outputs and reaches every input that requires one and, of a module,
    every parameter.
    """
    device = inputs[0].device
    leaves = [tensor for tensor in inputs if tensor.requires_grad]
    if isinstance(function, nn.Module):
        leaves += function.parameters()
    gradients: list[Tensor] = []

    def forward() -> None:
        with torch.no_grad(), precision(device):
            function(*inputs)

    def forward_backward() -> None:
        for leaf in leaves:
            leaf.grad = None
        with precision(device):
            outputs = function(*inputs)
        outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        if not gradients:
            gradients.extend(torch.randn_like(output) for output in outputs)
        torch.autograd.backward(outputs, gradients)

    return dict(zip(MODES, (forward, forward_backward), strict=True))


class Projections(nn.Module):
    """The projections of a mixer, each of an input of its own: the least that a mixer takes."""

    def __init__(self, mixer: nn.Module):
        super().__init__()
        linears = [part for part in mixer.modules() if isinstance(part, nn.Linear)]
        self.linears = nn.ModuleList(nn.Linear(one.in_features, one.out_features, bias=False) for one in linears)

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        return [linear(x) for linear, x in zip(self.linears, inputs, strict=True)]

    def passes(self, batch: int, length: int, device: torch.device) -> dict[str, Call]:
        """Both modes on `batch` sequences."""
        inputs = [draw(batch, length, linear.in_features, device=device) for linear in self.linears]
        return passes(self.to(device), *inputs)


def draw(*shape: int, device: torch.device | str = "cpu") -> Tensor:
    """An input with gradient."""
    return torch.randn(*shape, device=device).requires_grad_()


def off_by(one: Tensor, other: Tensor) -> float:
    """The largest difference between two tensors, relative to the largest entry."""
    return ((one - other).abs().max() / other.abs().max()).item()
