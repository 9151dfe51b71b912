"""Seconds of a pass and symbols per second, by batch and length: forward passes, training steps, generation."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from diffmamba.measures.efficiency import Efficiency
from diffmamba.measures.measure import Row
from diffmamba.measures.passes import Load, Pass
from diffmamba.metric import Metric
from diffmamba.models import LanguageModel
from diffmamba.ranges import Count, Size

QUARTILES = {"low": 25, "median": 50, "high": 75}


@dataclass(frozen=True)
class Throughput(Efficiency):
    """Times passes one after the other, after some that are not timed.

    The clock is read when the device has done all that was asked of it. Every repeat is a row. In generation,
    tokens_per_second counts the new symbols over all the time, that of the prompt too, as in figure 9 of the paper;
    first_symbol_seconds is when the first of them was there, and decoding_tokens_per_second counts the others.

    Args:
        warm_up: passes before those that are timed.
        repeats: passes that are timed.
    """

    warm_up: Count = 1
    repeats: Size = 7

    metrics: ClassVar[Mapping[str, Metric]] = {
        "tokens_per_second": Metric("tokens/s, the highest median", "higher", 0),
        **Efficiency.SHARED,
    }
    headline = "tokens_per_second"

    def measured(self, network: LanguageModel, load: Load, repeated: Pass) -> Iterator[Row]:
        device = repeated.symbols.device
        for _ in range(self.warm_up):
            _marks(repeated, device)
        by_repeat = [_values(load, _marks(repeated, device)) for _ in range(self.repeats)]
        for number, values in enumerate(by_repeat, start=1):
            yield from (Row(name, value, self.at(load) | {"repeat": number}) for name, value in values.items())
        for name in by_repeat[0]:
            taken = [values[name] for values in by_repeat]
            for word, percent in QUARTILES.items():
                yield Row(f"{name}_{word}", float(np.percentile(taken, percent)), self.at(load))

    def figures(self, rows: Sequence[Row]) -> dict[str, float]:
        speeds = [row.value for row in rows if row.measure == "tokens_per_second_median"]
        return {"tokens_per_second": max(speeds, default=0.0)}


def _marks(repeated: Pass, device: torch.device) -> list[float]:
    """Seconds from the start of a pass to each place where it yields."""
    start = _now(device)
    return [_now(device) - start for _ in repeated()]


def _now(device: torch.device) -> float:
    """Seconds; on a GPU after all that was started there is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _values(load: Load, marks: Sequence[float]) -> dict[str, float]:
    """What the clock says of one pass."""
    seconds = marks[-1]
    values = {"seconds": seconds, "tokens_per_second": load.tokens / seconds}
    if load.new:
        values["first_symbol_seconds"] = marks[0]
    if load.new > 1:
        values["decoding_tokens_per_second"] = load.batch * (load.new - 1) / (seconds - marks[0])
    return values
