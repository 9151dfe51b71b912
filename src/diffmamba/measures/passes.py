"""What is timed, and what memory is counted of: a pass of a language model over random symbols, in one of four modes.

    | mode       | what is done                                                                             |
    | inference  | the forward pass to the logits of all positions, without a graph                         |
    | forward    | the same, keeping what a backward pass needs                                             |
    | training   | forward pass to the loss, backward pass, a step of AdamW                                 |
    | generation | the prompt is read in the parallel form, then each new symbol takes one step             |

A pass is an iterator. It yields where a clock is to be read: at its end, and in generation also at the first symbol.
What it yields last is what the pass leaves behind.

Under autocast a pass is as one in an autocast context of its own: the casts of weights that it makes serve it alone. A
backward pass and a step of AdamW are outside of it, as in training.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from diffmamba.models import LanguageModel, generate

Mode = Literal["inference", "forward", "training", "generation"]


@dataclass(frozen=True)
class Load:
    """How much a pass has to do: `batch` sequences of `length` symbols, and `new` ones generated after each."""

    batch: int
    length: int
    new: int = 0

    @property
    def tokens(self) -> int:
        """The symbols that a speed counts: the new ones of a generation, otherwise those that are read."""
        return self.batch * (self.new or self.length)

    def symbols(self, vocabulary: int, device: torch.device) -> Tensor:
        """Random symbols to read, `(batch, length)`, the same each time."""
        random = torch.Generator().manual_seed(0)
        return torch.randint(vocabulary, (self.batch, self.length), generator=random).to(device)


def passes(network: LanguageModel, symbols: Tensor, mode: Mode, new: int) -> "Pass":
    """What does a pass each time it is called. `new` symbols are generated in the mode generation."""
    if mode == "generation":
        return Generation(network, symbols, new)
    if mode == "training":
        return Training(network, symbols)
    return Forward(network, symbols, keeps_graph=mode == "forward")


@contextmanager
def own_casts() -> Iterator[None]:
    """Forgets the casts of weights that autocast keeps, before and after, as entering and leaving its context does."""
    torch.clear_autocast_cache()
    try:
        yield
    finally:
        torch.clear_autocast_cache()


class Pass(ABC):
    """A pass of a network over symbols, which can be made again and again."""

    def __init__(self, network: LanguageModel, symbols: Tensor):
        self.network, self.symbols = network, symbols

    @abstractmethod
    def __call__(self) -> Iterator[Any]:
        """Yields where a clock is to be read, and last what the pass leaves behind."""


class Forward(Pass):
    """The logits of all positions, with or without what a backward pass needs."""

    def __init__(self, network: LanguageModel, symbols: Tensor, keeps_graph: bool):
        super().__init__(network, symbols)
        self.keeps_graph = keeps_graph

    def __call__(self) -> Iterator[Any]:
        with torch.set_grad_enabled(self.keeps_graph), own_casts():
            logits = self.network(self.symbols)
        yield logits


class Training(Pass):
    """A step of training. The learning rate is 0, so that all is computed and the weights stay as they are."""

    def __init__(self, network: LanguageModel, symbols: Tensor):
        super().__init__(network, symbols)
        self.targets = symbols.roll(-1, dims=1)
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=0.0, fused=True)

    def __call__(self) -> Iterator[Any]:
        self.optimizer.zero_grad()
        self.network.train()
        with torch.enable_grad(), own_casts():
            loss = self.network(self.symbols, self.targets).mean()
        with torch.autocast(self.symbols.device.type, enabled=False):
            loss.backward()
            self.optimizer.step()
        self.network.eval()
        yield self.optimizer


class Generation(Pass):
    """The prompt, then so many new symbols, the most likely one each time."""

    def __init__(self, network: LanguageModel, symbols: Tensor, new: int):
        super().__init__(network, symbols)
        self.new = new

    def __call__(self) -> Iterator[Any]:
        with own_casts():
            generated = generate(self.network, self.symbols, self.new, temperature=0)
            yield next(generated)
            yield [*generated]
