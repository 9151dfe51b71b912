"""What every section is given: the device, the sizes, a clock, and ways to tell how far it is and what was left out."""

import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.floors import Gauge
from benchmarks.record import Floor, Record, Section, Target
from benchmarks.sizes import Sizes
from benchmarks.timing import Call, Clock, Patience, Spread
from diffmamba.mixers import Mixer

UNITS = {"ms": 1e3, "µs": 1e6, "kB": 1e-3, "MB": 1e-6, "symbols/s": 1}  # per second or byte


Cases = Mapping[str, Call]


@dataclass
class Bench:
    """One run of the benchmarks on one device."""

    device: torch.device
    sizes: Sizes
    started: float = field(default_factory=time.perf_counter)

    @property
    def clock(self) -> Clock:
        return Clock(self.device)

    def tell(self, what: str) -> None:
        """A line of progress."""
        print(f"[{time.perf_counter() - self.started:4.0f} s] {what}", file=sys.stderr, flush=True)

    def gauge(self, mixer: Mixer, batch: int, length: int) -> Gauge:
        """What measures this device's rates at a mixer's shapes."""
        return Gauge(mixer, batch, length, self.device)

    def compare(
        self, what: str, cases: Cases, gauge: Gauge | None = None, patience: Patience | None = None
    ) -> dict[str, list[float]]:
        """Seconds of each case by round, those of a gauge among them; says what it is at first."""
        self.tell(what)
        return self.clock.compare(cases, patience or self.sizes.patience, gauge.cases if gauge else None)

    def fitting(self, section: Section, what: str, cases: Cases) -> dict[str, Call]:
        """Those of some cases that a GPU has the memory for; the others are noted. A CPU is taken to have enough."""
        if self.device.type == "cpu":
            return dict(cases)
        kept = {}
        for name, call in cases.items():
            try:
                call()
                kept[name] = call
            except torch.OutOfMemoryError:
                section.notes.append(f"{what}, {name}: more than the memory of this device")
            torch.cuda.empty_cache()
        return kept


def ratio(
    section: Section,
    name: str,
    ours: Iterable[float],
    other: Iterable[float],
    *,
    unit: str = "ms",
    faster: bool = False,
    target: Target | None = None,
    floor: tuple[float, str] | None = None,
    published: float | None = None,
    at: dict[str, Any] | None = None,
) -> None:
    """Appends the record of a comparison to a section: what both sides took, round by round, in seconds or bytes.

    The ratio is ours / other, or other / ours where `faster` asks how many times faster ours is. `floor` is the best
    that our side could be, and what that is.
    """
    ours, other = ([value * UNITS[unit] for value in side] for side in (ours, other))
    section.records.append(
        Record(
            section=section.name,
            name=name,
            ours=Spread.of(ours).median,
            other=Spread.of(other).median,
            unit=unit,
            ratio=Spread.of_ratios(other, ours) if faster else Spread.of_ratios(ours, other),
            ratio_is="other / ours" if faster else "ours / other",
            target=target,
            floor=None if floor is None else Floor(floor[0] * UNITS[unit], floor[1]),
            published=published,
            at=at or {},
        )
    )
