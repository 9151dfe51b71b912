"""Time, measured so that a ratio survives a busy machine.

What is compared runs in turns, round by round, each round in the opposite order of the one before. A ratio is taken
within a round, where both sides met the same machine, and the median over the rounds is reported with its quartiles.
What
slows the whole machine for a while slows both sides, and a round that was disturbed on one side only is outvoted.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TypeVar

import torch

Call = Callable[[], object]
T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """How long a comparison may take: a round more while `seconds` are not over and there are fewer than `most`, but at
    least `least` rounds unless these alone take longer than `ceiling` seconds, and never fewer than one."""

    seconds: float
    least: int
    most: int
    ceiling: float
    sample: float  # seconds that one measurement should last at least; short calls are repeated that often
    long: float  # seconds from which a call's first run counts at once, as there is no start-up worth leaving out


@dataclass(frozen=True)
class Spread:
    """The median of some values, their quartiles, and how many there are."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        ordered = sorted(values)
        return cls(median(ordered), _quantile(ordered, 0.25), _quantile(ordered, 0.75), len(ordered))

    @classmethod
    def of_ratios(cls, numerators: Sequence[float], denominators: Sequence[float]) -> "Spread":
        return cls.of([one / other for one, other in zip(numerators, denominators, strict=True)])


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Linear between neighbours, as numpy does it."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


@dataclass(frozen=True)
class Clock:
    """Seconds on a device; on a GPU only after all that was started there is done."""

    device: torch.device

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def seconds(self, call: Call, calls: int = 1) -> float:
        """Seconds for each of some calls in a row."""
        start = self.now()
        for _ in range(calls):
            call()
        return (self.now() - start) / calls

    def compare(
        self, cases: Mapping[str, Call], patience: Patience, beside: Mapping[str, Call] | None = None
    ) -> dict[str, list[float]]:
        """Seconds per call of each case, one number per round; what is `beside` is called just once a round."""
        start = time.perf_counter()
        samplers: dict[str, Callable[[], float]] = {}
        for name, call in cases.items():
            first = self.seconds(call)  # loads libraries and kernels, fills caches
            if first > patience.long:
                samplers[name] = _FirstThen(first, call, self)
                continue
            once = first if first > patience.sample else self.seconds(call)
            calls = max(1, math.ceil(patience.sample / max(once, 1e-7)))
            samplers[name] = partial(self.seconds, call, calls)
        for name, call in (beside or {}).items():
            call()
            samplers[name] = partial(self.seconds, call)
        return rounds(samplers, patience, start)


class _FirstThen:
    """A sampler that returns a measurement made already, and measures anew from then on."""

    def __init__(self, first: float, call: Call, clock: Clock):
        self.first: float | None = first
        self.call, self.clock = call, clock

    def __call__(self) -> float:
        first, self.first = self.first, None
        return self.clock.seconds(self.call) if first is None else first


def rounds(
    samplers: Mapping[str, Callable[[], T]], patience: Patience, start: float | None = None
) -> dict[str, list[T]]:
    """Calls every sampler once a round and returns what each gave, round by round; `start` is when patience began."""
    values: dict[str, list[T]] = {name: [] for name in samplers}
    names = list(samplers)
    start = time.perf_counter() if start is None else start
    for done in range(1, patience.most + 1):
        for name in names:
            values[name].append(samplers[name]())
        names.reverse()
        with_another = (time.perf_counter() - start) * (done + 1) / done
        if with_another > (patience.seconds if done >= patience.least else patience.ceiling):
            break
    return values
