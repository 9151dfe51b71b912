"""What the measures of speed and memory share: modes, batches and lengths, and what happens where memory is too small.

Each is taken of a language model of any weights, on random symbols, so any data will do that have a vocabulary. What
they say depends on the machine.
"""

import gc
import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import nn

from diffmamba import free_memory
from diffmamba.errors import SettingError
from diffmamba.measures.measure import Measure, Row, Subject
from diffmamba.measures.need import Need
from diffmamba.measures.passes import Load, Mode, Pass, passes
from diffmamba.metric import Metric
from diffmamba.models import LanguageModel
from diffmamba.ranges import Size

OUT_OF_MEMORY = "out_of_memory"


@dataclass(frozen=True)
class Efficiency(Measure):
    """A pass in one mode, for every batch with every length.

    Args:
        mode: what a pass is, see `passes`.
        batches: sequences at once.
        lengths: symbols that each of them has; in generation those of the prompt.
        new: symbols that are generated after a prompt.
        compile: have the network compiled by `torch.compile`, for each shape by itself.
        machine: a word of your own that tells machines apart which share a run store.
    """

    mode: Mode = "inference"
    batches: Sequence[Size] = (1,)
    lengths: Sequence[Size] = (2048,)
    new: Size = 128
    compile: bool = False
    machine: str | None = None

    of_machine: ClassVar[bool] = True
    SHARED: ClassVar[Mapping[str, Metric]] = {
        "loads": Metric("loads", "higher", 0),
        "out_of_memory": Metric("loads out of memory", "lower", 0),
        "busy": Metric("processes that wanted to compute, on average over the minute before", "lower", 1),
    }

    @property
    def compiled(self) -> bool:
        return self.compile

    def completed(self, settings: Mapping[str, Any]) -> Self:
        return self if self.mode == "generation" else replace(self, new=type(self).new)

    def check(self, data: object) -> None:
        for name in ("batches", "lengths"):
            if not getattr(self, name):
                raise SettingError(f"measure.{name}=[] leaves nothing to measure; give one or more")
        if self.compile and self.mode == "generation":
            raise SettingError(
                "measure.compile=true compiles forward passes, and measure.mode=generation goes step by step; use "
                "measure.compile=false"
            )

    def check_network(self, network: nn.Module) -> None:
        if not isinstance(network, LanguageModel):
            raise SettingError(
                f"measure: a {type(network).__name__} is no language model, and these passes are of one; choose other "
                "data, such as data=symbols"
            )

    @abstractmethod
    def measured(self, network: LanguageModel, load: Load, repeated: Pass) -> Iterator[Row]:
        """The rows of a load, with all their coordinates. `repeated` makes the pass each time it is called."""

    @abstractmethod
    def figures(self, rows: Sequence[Row]) -> dict[str, float]:
        """The figures of the whole; there may be no rows."""

    def rows(self, subject: Subject) -> Iterator[Row]:
        """A load that memory is too small for has one row, `out_of_memory`, and so have all that are larger than it."""
        busy = os.getloadavg()[0]
        network = subject.network
        assert isinstance(network, LanguageModel)
        needs = None
        if subject.device.type == "cpu":  # before it is compiled
            needs = Need(network, subject.device, self.mode, max(self.lengths))
        if self.compile:
            network.compile(dynamic=False)
        loads = [Load(batch, length, self._new) for batch in self.batches for length in self.lengths]
        too_large: list[Load] = []
        found: list[Row] = []
        for done, load in enumerate(loads):
            subject.progress(done, len(loads))
            beyond = any(load.batch >= one.batch and load.length >= one.length for one in too_large)
            rows = None if beyond else self._within_memory(network, load, needs, subject)
            if rows is None:
                too_large.append(load)
                rows = [Row(OUT_OF_MEMORY, 1, self.at(load))]
            else:
                found += rows
            yield from rows
        told = {"loads": len(loads) - len(too_large), OUT_OF_MEMORY: len(too_large), "busy": round(busy, 2)}
        figures: dict[str, float] = {**told, **self.figures(found)}
        yield from (Row(name, value) for name, value in figures.items())

    def at(self, load: Load) -> dict[str, int | str]:
        """The coordinates of a load."""
        told: dict[str, int | str] = {"mode": self.mode, "batch": load.batch, "length": load.length}
        return told | ({"new": load.new} if load.new else {})

    @property
    def _new(self) -> int:
        return self.new if self.mode == "generation" else 0

    def _within_memory(
        self, network: LanguageModel, load: Load, needs: Need | None, subject: Subject
    ) -> list[Row] | None:
        """The rows of a load; None where memory is not enough for it."""
        if needs and not needs.fits(load):
            return None
        if self.compile:
            torch.compiler.reset()  # after a few shapes PyTorch would go on without compiling, and say nothing
        try:
            symbols = load.symbols(network.vocabulary_size, subject.device)
            return list(self.measured(network, load, passes(network, symbols, self.mode, load.new)))
        except Exception as error:
            if not free_memory.exhausted(error):
                raise
        network.zero_grad()
        gc.collect()
        if subject.device.type == "cuda":
            torch.cuda.empty_cache()
        return None
