"""The least that some of what is measured could take, on this machine.

A mixer cannot be faster than its matrix products alone (`projections`). A decoding step cannot be faster than one
reading of all weights and one reading and writing of the states, at the rate of a copy (`step_seconds`).
"""

import torch
from torch import Tensor, nn

from benchmarks.passes import draw, passes
from benchmarks.timing import Call, Clock
from diffmamba.mixers import Mixer

COPIES = 5  # of which the fastest counts
FLOOR = "projections alone"  # the name of the case in a comparison


class Projections(nn.Module):
    """The projections of a mixer, each of an input of its own."""

    def __init__(self, mixer: Mixer):
        super().__init__()
        linears = [part for part in mixer.modules() if isinstance(part, nn.Linear)]
        self.linears = nn.ModuleList(nn.Linear(one.in_features, one.out_features, bias=False) for one in linears)

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        return [linear(x) for linear, x in zip(self.linears, inputs, strict=True)]


def projections(mixer: Mixer, batch: int, length: int, device: torch.device) -> dict[str, Call]:
    """Both modes of a mixer's projections on `batch` sequences."""
    alone = Projections(mixer).to(device)
    return passes(alone, *(draw(batch, length, linear.in_features, device=device) for linear in alone.linears))


def copy_rate(device: torch.device) -> float:
    """Bytes that a large copy reads and writes in a second."""
    source = torch.empty(2**26 if device.type == "cpu" else 2**29, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    clock = Clock(device)
    return 2 * source.nbytes / min(clock.seconds(lambda: target.copy_(source)) for _ in range(COPIES))


def step_seconds(network: nn.Module, state_bytes: int, rate: float) -> float:
    """Seconds of a decoding step at so many bytes a second; weights are float32."""
    return (4 * sum(weight.numel() for weight in network.parameters()) + 2 * state_bytes) / rate
