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
from torch import Tensor, nn
from torch._inductor import config as inductor_config

from diffmamba import memory
from diffmamba.errors import SettingError
from diffmamba.measures.live import taken
from diffmamba.measures.measure import Measure, Row, Subject
from diffmamba.measures.passes import Load, Mode, Pass, passes
from diffmamba.metric import Metric
from diffmamba.models import LanguageModel
from diffmamba.ranges import Size

SHORT = 32  # symbols of the passes that a need for memory is estimated from
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
        busy, network = os.getloadavg()[0], self._prepared(subject)
        loads = [Load(batch, length, self._new) for batch in self.batches for length in self.lengths]
        too_large: list[Load] = []
        found: list[Row] = []
        needs = Need(network, self.mode, subject) if subject.device.type == "cpu" else None
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

    def _prepared(self, subject: Subject) -> LanguageModel:
        network = subject.network
        assert isinstance(network, LanguageModel)
        if self.compile:
            torch.compiler.reset()
            inductor_config.fallback_random = True
            network.compile(dynamic=False)
        return network

    def _within_memory(
        self, network: LanguageModel, load: Load, needs: "Need | None", subject: Subject
    ) -> list[Row] | None:
        """The rows of a load; None where memory is not enough for it."""
        if needs and not needs.fits(load):
            return None
        try:
            symbols = load.symbols(network.vocabulary_size, subject.device)
            return list(self.measured(network, load, passes(network, symbols, self.mode, load.new)))
        except Exception as error:
            if not memory.exhausted(error):
                raise
        network.zero_grad()
        gc.collect()
        if subject.device.type == "cuda":
            torch.cuda.empty_cache()
        return None


class Need:
    """What a pass will take on a CPU, from two short passes: a straight line by length, times the batch.

    A system may promise memory that it does not have, and end the process that uses it. So a load is left out before.
    """

    def __init__(self, network: LanguageModel, mode: Mode, subject: Subject):
        self.fixed = 3 * sum(map(_bytes, network.parameters())) if mode == "training" else 0  # gradients, two moments
        new, lengths = (2 if mode == "generation" else 0), (SHORT, 2 * SHORT)
        peaks = []
        for length in lengths:
            symbols = Load(1, length, new).symbols(network.vocabulary_size, subject.device)
            repeated = passes(network, symbols, mode, new)
            peaks.append(taken(subject.device, lambda repeated=repeated: [*repeated()]).peak)  # type: ignore[misc]
            network.zero_grad()
        self.by_symbol = max(0.0, (peaks[1] - peaks[0]) / (lengths[1] - lengths[0]))
        self.by_sequence = max(0.0, peaks[0] - self.fixed - self.by_symbol * lengths[0])

    def bytes(self, load: Load) -> float:
        """The estimate for a load."""
        return self.fixed + load.batch * (self.by_sequence + self.by_symbol * (load.length + load.new))

    def fits(self, load: Load) -> bool:
        """Whether so much is free, as far as the system tells."""
        free = memory.free()
        return free is None or self.bytes(load) <= free


def _bytes(tensor: Tensor) -> int:
    return tensor.nbytes
