"""Time, measured so that a ratio survives a busy machine.

What is compared runs in turns, round by round, each round in the opposite order of the one before. A ratio is taken
within a round, where both sides met the same machine. The median over the rounds is reported with its quartiles. What
slows the whole machine for a while slows both sides, and a round that was disturbed on one side only is outvoted.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch

Call = Callable[[], object]
T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """How long a comparison may take.

    There is another round while `seconds` are not over and there are fewer than `most`. There are at least `least`
    rounds, unless these alone take longer than `ceiling` seconds, and always one.
    """

    seconds: float
    least: int
    most: int
    ceiling: float
    sample: float  # seconds that one measurement should last at least; short calls are repeated that often
    long: float = 3  # seconds from which a call's first run counts at once, as there is no start-up worth leaving out


@dataclass(frozen=True)
class Spread:
    """The median of some values, their quartiles, and how many there are."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        low, middle, high = np.percentile(values, [25, 50, 75]).tolist()
        return cls(middle, low, high, len(values))

    @classmethod
    def of_ratios(cls, numerators: Sequence[float], denominators: Sequence[float]) -> "Spread":
        return cls.of([one / other for one, other in zip(numerators, denominators, strict=True)])


def now() -> float:
    """Seconds; on a GPU after all that was started there is done."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def compare(cases: Mapping[str, Call], patience: Patience) -> dict[str, list[float]]:
    """Seconds per call of each case, one number per round."""
    start = time.perf_counter()
    return rounds({name: _sampler(call, patience) for name, call in cases.items()}, patience, start)


def rounds(
    samplers: Mapping[str, Callable[[], T]], patience: Patience, start: float | None = None, warm_up: bool = False
) -> dict[str, list[T]]:
    """Calls every sampler once a round and returns what each gave, round by round; `start` is when patience began."""
    if warm_up:
        for sampler in samplers.values():
            sampler()
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


def _sampler(call: Call, patience: Patience) -> Callable[[], float]:
    """What measures a call. The first run loads libraries and kernels and fills caches; a long one counts."""
    first = _seconds(call)
    if first > patience.long:
        earlier = [first]
        return lambda: earlier.pop() if earlier else _seconds(call)
    once = first if first > patience.sample else _seconds(call)
    return partial(_seconds, call, max(1, math.ceil(patience.sample / max(once, 1e-7))))


def _seconds(call: Call, calls: int = 1) -> float:
    """Seconds for each of some calls in a row."""
    start = now()
    for _ in range(calls):
        call()
    return (now() - start) / calls
