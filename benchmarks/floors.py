"""What arithmetic and memory alone would take: operations and bytes of every part, at rates measured in the same run.

A part cannot be faster than its operations at the rate of this machine's matrix products, nor than reading its inputs
and writing its outputs once at the rate of its copies. The longer of the two is its floor, and the sum over parts that
of the whole. Both rates are what PyTorch reaches here, not what a data sheet says. The count is a lower bound for any
algorithm: of the scan it has only what writes to the state and reads from it, of elementwise parts only memory.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.passes import draw, passes
from benchmarks.timing import Call
from diffmamba.mixers import Attention, Difference, Mamba1, Mamba2, Mixer
from diffmamba.models import LanguageModel

OPTIMIZER_BYTES = 7 * 4  # AdamW reads a weight, its gradient, two moments; writes all but the gradient; in float32


@dataclass(frozen=True)
class Rates:
    """What this machine reaches: operations per second in projections, bytes per second read and written in copies."""

    operations: float
    bytes: float


@dataclass(frozen=True)
class Part:
    """A part of a computation with its operations and bytes."""

    name: str
    operations: float
    bytes: float

    def seconds(self, rates: Rates) -> float:
        return max(self.operations / rates.operations, self.bytes / rates.bytes)

    def bound(self, rates: Rates) -> str:
        """What its floor is made of."""
        by_operations = self.operations / rates.operations >= self.bytes / rates.bytes
        return "arithmetic" if by_operations else "memory"


def seconds(parts: Iterable[Part], rates: Rates) -> float:
    """The floor of parts that run one after the other."""
    return sum(part.seconds(rates) for part in parts)


class Projections(nn.Module):
    """The projections of a mixer alone, each of an input of its own: what no implementation can leave out."""

    def __init__(self, mixer: Mixer):
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(*sizes, bias=False) for sizes in _linears(mixer))

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        return [linear(x) for linear, x in zip(self.linears, inputs, strict=True)]

    def inputs(self, batch: int, length: int, device: torch.device) -> list[Tensor]:
        """One `(batch, length, inputs)` for each projection."""
        return [draw(batch, length, linear.in_features, device=device) for linear in self.linears]


class Gauge:
    """Measures the rates while something else is measured: once a round (see `timing.py`); the fastest round counts.

    Its cases are a mixer's projections in both modes, and two copies: one as large as the mixer's activations, which
    may stay in a cache, and one far larger.
    """

    def __init__(self, mixer: Mixer, batch: int, length: int, device: torch.device):
        alone = Projections(mixer).to(device)
        calls = passes(alone, *alone.inputs(batch, length, device))
        once = 2 * batch * length * sum(weight.numel() for weight in alone.parameters())
        small = torch.empty(batch, length, max(linear.out_features for linear in alone.linears), device=device)
        large = torch.empty(2**26 if device.type == "cpu" else 2**29, dtype=torch.uint8, device=device)
        copied = {"gauge, copy of activations": small, "gauge, copy of more": large}
        self._operations = {f"gauge, {mode}": once * (1 if mode == "forward" else 3) for mode in calls}
        self._bytes = {name: 2 * tensor.nbytes for name, tensor in copied.items()}
        self.cases: dict[str, Call] = {
            **{f"gauge, {mode}": call for mode, call in calls.items()},
            **{name: _copy(tensor) for name, tensor in copied.items()},
        }

    def rates(self, taken: Mapping[str, Sequence[float]]) -> Rates:
        """From the seconds of every round."""
        return Rates(
            operations=max(count / min(taken[name]) for name, count in self._operations.items()),
            bytes=max(count / min(taken[name]) for name, count in self._bytes.items()),
        )


def _copy(tensor: Tensor) -> Call:
    target = torch.empty_like(tensor)
    return lambda: target.copy_(tensor)


@dataclass(frozen=True)
class Counter:
    """Counts the parts of what happens to some sequences, forward or forward and backward."""

    batch: int
    length: int
    backward: bool
    device: torch.device

    @property
    def itemsize(self) -> int:
        """Bytes of a number: bfloat16 on a GPU, float32 on a CPU."""
        return 2 if self.device.type == "cuda" else 4

    @property
    def tokens(self) -> int:
        return self.batch * self.length

    def linear(self, name: str, linears: Iterable[tuple[int, int]]) -> Part:
        """Matrix products by weights of some (inputs, outputs)."""
        times = 3 if self.backward else 1
        operations = moved = 0
        for inputs, outputs in linears:
            operations += 2 * inputs * outputs * self.tokens * times
            moved += self._moved(inputs, outputs) * self.tokens + inputs * outputs * times
        return Part(name, operations, moved * self.itemsize)

    def through(self, name: str, read: int, written: int, operations: float = 0) -> Part:
        """Reads and writes so many numbers per position, with so many operations."""
        times = 3 if self.backward else 1
        moved = self._moved(read, written) * self.tokens * self.itemsize
        return Part(name, operations * self.tokens * times, moved)

    def _moved(self, read: int, written: int) -> int:
        """Backward reads the inputs and the outputs' gradients, and writes the inputs' gradients."""
        return read + written + (2 * read + written if self.backward else 0)

    def mixer(self, mixer: Mixer) -> Iterator[Part]:
        """The parts of any mixer of this package."""
        yield self.linear("projections", _linears(mixer))
        if isinstance(mixer, Attention):
            maps = mixer.combine.maps
            products = 2 * mixer.inner * (1 + maps) * self.length / 2  # half of all pairs are in the past
            yield self.through("attention", 3 * mixer.inner, mixer.inner, products)
        elif isinstance(mixer, Mamba1 | Mamba2):
            yield from self._state_space(mixer)

    def _state_space(self, mixer: Mamba1 | Mamba2) -> Iterator[Part]:
        inner, taps = mixer.d_inner, mixer.conv1d.kernel_size[0]
        first = isinstance(mixer, Mamba1)
        states = 2 * mixer.d_state * (mixer.branches if first else mixer.groups)
        channels = inner if first else inner + states
        steps = inner if first else mixer.heads
        yield self.through("convolution", channels, channels, 2 * taps * channels)
        yield self.through("scan", inner + steps + states, inner, 4 * inner * mixer.d_state)
        yield self.through("gate" if first else "gated norm", 2 * inner, inner)
        if isinstance(mixer.combine, Difference):
            width = inner // 2 if mixer.combine.shared else mixer.out_proj.out_features
            yield self.through("outer norm", width, width)

    def network(self, network: LanguageModel) -> Iterator[Part]:
        """All blocks with their norms, and the head."""
        d_model = network.embedding.embedding_dim
        for block in network.backbone.blocks:
            if isinstance(block.layer, Mixer):
                yield from self.mixer(block.layer)
            else:
                yield self.linear("feed-forward", _linears(block.layer))
            yield self.through("residual norm", 2 * d_model, d_model)
        yield self.linear("head", [(d_model, network.embedding.num_embeddings)])

    def training_step(self, network: LanguageModel) -> Iterator[Part]:
        """The network with backward, and AdamW."""
        yield from self.network(network)
        learned = sum(parameter.numel() for parameter in network.parameters())
        yield Part("optimiser", 0, learned * OPTIMIZER_BYTES)


def decoding_step(network: LanguageModel, batch: int, state_bytes: int) -> Part:
    """One position: all weights read once, the state read and written."""
    learned = sum(parameter.numel() for parameter in network.parameters())
    return Part("decoding step", 2 * learned * batch, learned * 4 + 2 * state_bytes)


def _linears(module: nn.Module) -> list[tuple[int, int]]:
    return [(part.in_features, part.out_features) for part in module.modules() if isinstance(part, nn.Linear)]
