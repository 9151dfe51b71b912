"""The two things that are timed of any function: forward, without a graph, and forward with backward to every leaf."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from benchmarks.models import Projections
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


def floor(mixer: nn.Module, batch: int, length: int) -> dict[str, Call]:
    """Both modes of a mixer's projections alone, on as many sequences."""
    alone = Projections(mixer)
    device = next(mixer.parameters()).device
    return passes(alone.to(device), *(draw(batch, length, one.in_features, device=device) for one in alone.linears))


def draw(*shape: int, device: torch.device | str = "cpu") -> Tensor:
    """An input with gradient."""
    return torch.randn(*shape, device=device).requires_grad_()


def off_by(ours: Callable[..., Tensor], theirs: Callable[..., Tensor], *inputs: Tensor) -> float:
    """The largest difference between the outputs of two functions, relative to the largest entry of the second's."""
    with torch.no_grad(), precision(inputs[0].device):
        one, other = ours(*inputs), theirs(*inputs)
    return ((one - other).abs().max() / other.abs().max()).item()
