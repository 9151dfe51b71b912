"""Floating-point operations, counted from the network's shapes, and how long they take a GPU.

Forward operations per token, a multiplication and an addition being one each:

    a linear layer                 2 · in · out
    the softmax, tied              2 · vocabulary · d_model
    the adaptive embedding         the first softmax and its projection for every token; a tail and a projection for
                                   the tokens that fall in that cluster: by Zipf's law, or for all as an upper bound
    the convolution                2 · d_conv · channels
    the scan, as a recurrence      5 · d_inner · d_state + 3 · d_inner: decay, input and sum for each entry of the
                                   state (3), its read-out (2); dt · x and D · x for each channel. Mamba-1 also
                                   multiplies dt · A for each entry: 6 in the place of 5.

Not counted: norms, gates, activations, dropout, the loss and the optimiser, and what the chunked form of the scan does
beyond the recurrence. A backward pass counts as two forward ones.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache, singledispatch
from importlib import resources
from itertools import pairwise
from typing import Any, cast

from omegaconf import OmegaConf
from torch import nn

from diffmamba.audit.budget import Budget
from diffmamba.audit.cells import Cell
from diffmamba.errors import SettingError
from diffmamba.mixers import Mamba1, Mamba2, Mixer
from diffmamba.models import AdaptiveEmbedding, LanguageModel, TiedEmbedding

TRAINING = 3  # forward passes that a training step costs: one forward, and a backward that counts as two
PRECISIONS = ("fp32", "tf32", "bf16")


@dataclass(frozen=True)
class Assumed:
    """What is assumed, not computed: the device, and the share of its peak that training reaches in each precision.

    Nothing of it was measured. Faster precisions reach less of their peak, because the scan, the convolution and the
    norms wait for memory whatever the precision of the matrix products.
    """

    device: str = "l40s"
    fp32: float = 0.5
    tf32: float = 0.35
    bf16: float = 0.25


@dataclass(frozen=True)
class Forward:
    """Operations per token of a forward pass by part."""

    projections: float
    feed_forward: float
    convolution: float
    scan: float
    embedding: float
    softmax: float

    @property
    def total(self) -> float:
        return sum(asdict(self).values())


@dataclass(frozen=True)
class Compute:
    """Operations of a cell, one seed: per token by part and of the whole run; GPU-hours on the device assumed."""

    forward: Forward
    forward_per_token: float
    forward_upper_bound: float
    """With every tail of an adaptive softmax computed for every token."""
    training_per_token: float
    training: float
    evaluation: float
    total: float
    hours: dict[str, float]


def compute(cell: Cell, spent: Budget, assumed: Assumed) -> Compute:
    """What a cell costs."""
    counted = forward(cell.network, zipf=True)
    training = TRAINING * counted.total * spent.tokens
    evaluation = counted.total * spent.evaluated_tokens
    total = training + evaluation
    return Compute(
        forward=counted,
        forward_per_token=counted.total,
        forward_upper_bound=forward(cell.network, zipf=False).total,
        training_per_token=TRAINING * counted.total,
        training=training,
        evaluation=evaluation,
        total=total,
        hours=hours(total, assumed.device, assumed),
    )


def forward(network: LanguageModel, zipf: bool) -> Forward:
    """Operations per token; `zipf` says how often the tails of an adaptive softmax are met, else always."""
    layers = [cast(Any, block).layer for block in network.backbone.blocks]
    mixers = [layer for layer in layers if isinstance(layer, Mixer)]
    embedding, softmax = vocabulary(network.embedding, zipf)
    return Forward(
        projections=sum(map(linear, mixers)),
        feed_forward=sum(linear(layer) for layer in layers if not isinstance(layer, Mixer)),
        convolution=sum(map(convolution, mixers)),
        scan=sum(map(scan, mixers)),
        embedding=embedding,
        softmax=softmax,
    )


def linear(module: nn.Module) -> int:
    """Operations per token of every linear layer in a module."""
    return sum(2 * part.weight.numel() for part in module.modules() if isinstance(part, nn.Linear))


@singledispatch
def convolution(mixer: Mixer) -> int:
    """Operations per token of a mixer's convolution."""
    raise _uncounted(mixer)


@convolution.register
def _(mixer: Mamba2) -> int:
    return 2 * mixer.conv1d.kernel_size[0] * (mixer.d_inner + 2 * mixer.groups * mixer.d_state)


@convolution.register
def _(mixer: Mamba1) -> int:
    return 2 * mixer.conv1d.kernel_size[0] * mixer.d_inner


@singledispatch
def scan(mixer: Mixer) -> int:
    """Operations per token of a mixer's scan as a recurrence."""
    raise _uncounted(mixer)


@scan.register
def _(mixer: Mamba2) -> int:
    return (5 * mixer.d_state + 3) * mixer.d_inner


@scan.register
def _(mixer: Mamba1) -> int:
    return (6 * mixer.d_state + 3) * mixer.d_inner


def _uncounted(mixer: Mixer) -> SettingError:
    return SettingError(f"model.mixers: the operations of {type(mixer).__name__} are not counted yet; leave it out")


@singledispatch
def vocabulary(embedding: nn.Module, zipf: bool) -> tuple[float, float]:
    """Operations per token on the way in and on the way out."""
    raise SettingError(f"model/embedding: the operations of {type(embedding).__name__} are not counted yet")


@vocabulary.register
def _(embedding: TiedEmbedding, zipf: bool) -> tuple[float, float]:
    return 0, 2 * embedding.weight.numel()


@vocabulary.register
def _(embedding: AdaptiveEmbedding, zipf: bool) -> tuple[float, float]:
    sizes = tuple(high - low for low, high in pairwise(embedding.borders))
    if zipf:
        return adaptive(embedding, zipf_shares(sizes), zipf_shares(sizes))
    widest = [1.0, *(0.0 for _ in sizes[1:])]  # a token enters through one cluster; the first has the widest vectors
    return adaptive(embedding, widest, [1.0 for _ in sizes])


def adaptive(embedding: AdaptiveEmbedding, entering: Sequence[float], leaving: Sequence[float]) -> tuple[float, float]:
    """Operations per token in and out, given the share of the tokens that take each cluster."""
    vectors = [2 * vector.numel() for vector in embedding.vectors]
    projections = [2 * projection.numel() for projection in embedding.projections]
    way_in = sum(share * cost for share, cost in zip(entering, projections, strict=True))
    first = 2 * embedding.head_projection.numel() + vectors[0] + linear(embedding)
    tails = zip(leaving[1:], vectors[1:], projections[1:], strict=True)
    return way_in, first + sum(share * (vector + projection) for share, vector, projection in tails)


@cache
def zipf_shares(sizes: tuple[int, ...]) -> list[float]:
    """Share of the tokens in each cluster if the frequency of a symbol goes with 1/rank."""
    ranks = iter(range(1, sum(sizes) + 1))
    weights = [sum(1 / next(ranks) for _ in range(size)) for size in sizes]
    return [weight / sum(weights) for weight in weights]


def hours(operations: float, device: str, assumed: Assumed) -> dict[str, float]:
    """GPU-hours in each precision at the assumed share of the device's peak."""
    peak = devices()[device]["tflops"]
    return {
        precision: operations / (peak[precision] * 1e12 * getattr(assumed, precision)) / 3600
        for precision in PRECISIONS
    }


def devices() -> dict[str, Any]:
    """The devices of `devices.yaml` with their peaks in TFLOP/s."""
    text = resources.files(__package__).joinpath("devices.yaml").read_text(encoding="utf-8")
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.create(text)))
