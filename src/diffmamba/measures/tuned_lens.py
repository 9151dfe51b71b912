"""The tuned lens: what a network would say if it ended after a layer (arXiv 2303.08112).

A network of n residual blocks has n + 1 states: layer 0 is the embedding, layer i the output of block i. The logit lens
reads a state h as if it were the last one:

    logits of h = unembedding(final_norm(h))

The tuned lens first maps h to where the last layer would have it, with a matrix and a vector for each layer:

    h + W_i h + b_i

Both start from zero, so an untrained lens is the logit lens. The last layer has no map: there each lens is the network
itself. What is trained is KL(what the network says || what the lens says), the sum over all layers. The network is
frozen: only the maps get gradients.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional as F

from diffmamba.errors import SettingError
from diffmamba.models.language_model import LanguageModel

FORMAT = "diffmamba.lens"
Part = tuple[Tensor, Tensor]
"""Symbols, and where the lens counts: int64 and bool, each `(sequences, length)`."""


class TunedLens(nn.Module):
    """A map for each layer but the last: layers 0 to `layers - 1` of a network of so many residual blocks."""

    def __init__(self, layers: int, d_model: int):
        super().__init__()
        self.weight = nn.ParameterList(torch.zeros(d_model, d_model) for _ in range(layers))
        self.bias = nn.ParameterList(torch.zeros(d_model) for _ in range(layers))

    @classmethod
    def of(cls, network: LanguageModel) -> "TunedLens":
        """An untrained lens of a network, on its device and of its number type."""
        first = next(network.parameters())
        return cls(len(network.backbone.blocks), network.backbone.d_model).to(first.device, first.dtype)

    @property
    def layers(self) -> int:
        """The number of layers that have a map."""
        return len(self.weight)

    def forward(self, hidden: Tensor, layer: int) -> Tensor:
        """States of a layer `(..., d_model)` → the same shape; those of the last layer stay as they are."""
        if layer == self.layers:
            return hidden
        return hidden + F.linear(hidden, self.weight[layer], self.bias[layer])


@dataclass(frozen=True)
class Descent:
    """How a lens is trained: the learning rate falls linearly to 0 over `steps`.

    Args:
        steps: of the optimiser.
        optimizer: sgd, with Nesterov momentum, or adam.
        learning_rate: of the first step.
        momentum: of sgd.
        weight_decay: as a gradient, `weight_decay · W`.
        clip: the largest norm of all gradients of a step together.
    """

    steps: int
    optimizer: Literal["sgd", "adam"]
    learning_rate: float
    momentum: float
    weight_decay: float
    clip: float

    def of(self, lens: TunedLens) -> torch.optim.Optimizer:
        """The optimiser itself."""
        if self.optimizer == "adam":
            return torch.optim.Adam(lens.parameters(), self.learning_rate, weight_decay=self.weight_decay)
        return torch.optim.SGD(
            lens.parameters(),
            self.learning_rate,
            self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.momentum > 0,
        )


@torch.no_grad()
def states(network: LanguageModel, symbols: Tensor) -> list[Tensor]:
    """The states `(sequences, length, d_model)` of all layers, the embedding first."""
    return network.backbone.hidden(network.embedding.embed(symbols))


def log_probabilities(network: LanguageModel, hidden: Tensor) -> Tensor:
    """ln p of every symbol `(..., vocabulary)` that the network's head reads in states `(..., d_model)`."""
    logits = network.predicted(network.backbone.final_norm(hidden), None)
    return (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1)


def divergence(said: Tensor, read: Tensor) -> Tensor:
    """KL(said || read) in nats, of log-probabilities `(..., vocabulary)`."""
    return F.kl_div(read, said, reduction="none", log_target=True).sum(-1)


def train(
    lens: TunedLens,
    network: LanguageModel,
    batches: Iterable[Iterable[Part]],
    descent: Descent,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[float]:
    """Trains a lens, one step for each batch, and returns the loss of each step: the mean KL over layers, in nats.

    A batch comes in parts that are read one after the other.
    """
    optimizer = descent.of(lens)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / descent.steps)
    losses = []
    for step, batch in enumerate(batches, start=1):
        parts = list(batch)
        counted = sum(int(where.sum()) for _, where in parts)
        optimizer.zero_grad()
        loss = sum(accumulate(lens, network, symbols, where, counted) for symbols, where in parts)
        nn.utils.clip_grad_norm_(lens.parameters(), descent.clip)
        optimizer.step()
        schedule.step()
        losses.append(loss / max(lens.layers, 1))
        progress(step, descent.steps)
    return losses


def accumulate(lens: TunedLens, network: LanguageModel, symbols: Tensor, where: Tensor, counted: int) -> float:
    """Adds to the maps the gradients of a part, and returns its loss: the sum over layers of the KL by position.

    One layer after the other: the logits of a layer are gone when those of the next one are made. `counted` is the
    number of positions of the whole step.
    """
    hidden = [state[where] for state in states(network, symbols)]
    with torch.no_grad():
        said = log_probabilities(network, hidden.pop())
    total = 0.0
    for layer, state in enumerate(hidden):
        maps = (lens.weight[layer], lens.bias[layer])
        loss = divergence(said, log_probabilities(network, lens(state, layer))).sum() / counted
        for weight, gradient in zip(maps, torch.autograd.grad(loss, maps), strict=True):
            weight.grad = gradient if weight.grad is None else weight.grad + gradient
        total += loss.item()
    return total


@dataclass(frozen=True)
class Reading:
    """What a lens, "logit" or "tuned", says at a layer: ln p `(positions, vocabulary)`.

    `kl` `(positions,)` is KL(what the network says || that), in nats.
    """

    layer: int
    lens: str
    said: Tensor
    kl: Tensor


@torch.no_grad()
def readings(network: LanguageModel, lens: TunedLens | None, symbols: Tensor, where: Tensor) -> Iterator[Reading]:
    """What the logit lens says at each layer, and the tuned one, if there is one, at the positions that are `where`.

    At the last layer both are the network itself.
    """
    hidden = [state[where] for state in states(network, symbols)]
    said = log_probabilities(network, hidden[-1])
    for layer, state in enumerate(hidden):
        for name in ("logit", "tuned") if lens else ("logit",):
            mapped = lens(state, layer) if lens and name == "tuned" else state
            read = said if state is hidden[-1] else log_probabilities(network, mapped)
            yield Reading(layer, name, read, divergence(said, read))


def digest(network: nn.Module) -> str:
    """The hash of the weights of a network: their names, shapes and numbers."""
    found = hashlib.sha256()
    for name, weight in sorted(network.state_dict().items()):
        found.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        found.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


def to_bytes(lens: TunedLens, network: nn.Module, trained: Mapping[str, Any]) -> bytes:
    """A lens as the content of a .safetensors file, with the digest of the network that it is of."""
    about = {"format": FORMAT, "weights": digest(network), "trained": json.dumps(trained, sort_keys=True)}
    return save({name: weight.detach().cpu() for name, weight in lens.state_dict().items()}, about)


@dataclass(frozen=True)
class Kept:
    """A lens in a file: its maps, and the digest of the weights that it was trained for."""

    weights: str
    tensors: Mapping[str, Tensor]

    @classmethod
    def of(cls, content: bytes, named: str) -> "Kept":
        """Reads the content of a file. Raises SettingError, with the setting as it was `named`, if it is no lens."""
        try:
            tensors = load(content)
            size = int.from_bytes(content[:8], "little")
            about = json.loads(content[8 : 8 + size])["__metadata__"]
        except (SafetensorError, ValueError, LookupError):
            raise SettingError(f"{named} is no lens: give the lens.safetensors of a measurement") from None
        if about.get("format") != FORMAT or "weights" not in about:
            raise SettingError(f"{named} holds no lens, but other tensors: give the lens.safetensors of a measurement")
        return cls(about["weights"], tensors)

    def require_shape(self, network: LanguageModel, named: str) -> None:
        """Raises SettingError where the lens does not fit a network, which may be on the meta device."""
        layers, width = len(network.backbone.blocks), network.backbone.d_model
        with torch.device("meta"):
            expected = {name: weight.shape for name, weight in TunedLens(layers, width).state_dict().items()}
        if expected != {name: weight.shape for name, weight in self.tensors.items()}:
            has = len(self.tensors) // 2
            wide = next((weight.shape[-1] for weight in self.tensors.values()), 0)
            raise SettingError(
                f"{named} is a lens of another model: of {has} blocks of width {wide}, and this one has {layers} of "
                f"width {width}"
            )

    def require_weights(self, network: nn.Module, named: str) -> None:
        """Raises SettingError where the lens was trained for other weights than those of this network."""
        if self.weights != digest(network):
            raise SettingError(
                f"{named} was trained for other weights of a network of this shape; train one for these: leave out "
                f"measure.lens"
            )

    def opened(self, network: LanguageModel, named: str) -> TunedLens:
        """The lens. Raises the errors of `require_shape` and `require_weights`."""
        self.require_shape(network, named)
        self.require_weights(network, named)
        lens = TunedLens.of(network)
        lens.load_state_dict(dict(self.tensors))
        return lens
