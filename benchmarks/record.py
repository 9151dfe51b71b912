"""What the sections hand over: ratios of what was measured in turns, and the targets they are judged by."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.timing import Spread

UNITS = {"ms": 1e3, "µs": 1e6, "kB": 1e-3, "MB": 1e-6, "symbols/s": 1}  # per second or byte
FASTER = "other / ours"
Taken = Mapping[str | int, Sequence[float]]
"""What the cases of a comparison took, in seconds or bytes (or symbols per second), by case and round."""
Record = dict[str, Any]
"""A ratio that was measured, as it is in the JSON file (see `Ratio.measured`)."""


@dataclass(frozen=True)
class Target:
    """What a ratio should be; the median over the rounds decides."""

    least: float | None = None
    most: float | None = None

    def reached(self, ratio: float) -> bool:
        return (self.least is None or ratio >= self.least) and (self.most is None or ratio <= self.most)

    def __str__(self) -> str:
        if self.least is None:
            return f"≤ {self.most:.3g}"
        return f"≥ {self.least:.3g}" if self.most is None else f"{self.least:.3g} to {self.most:.3g}"


@dataclass(frozen=True)
class Ratio:
    """Which ratio of a comparison to report: ours / other, or where `faster` other / ours.

    `ours`, `other` and `floor` name cases. The fastest round of the floor is the least that ours could take.
    `at` are the coordinates, for the pictures and for programs.
    """

    name: str
    ours: str | int = "ours"
    other: str | int = "other"
    unit: str = "ms"
    faster: bool = False
    target: Target | None = None
    floor: str | None = None
    at: Mapping[str, Any] = field(default_factory=dict)

    def measured(self, section: str, taken: Taken) -> Record:
        """The record of this ratio.

        `ours` and `other` are medians in `unit`. `ratio` is the median of the ratios of the single rounds, which need
        not be the ratio of the medians, and `spread` their quartiles. `floor` holds the least that ours could take, and
        the ratio with our side there.
        """
        ours, other = taken[self.ours], taken[self.other]
        ratio = Spread.of_ratios(other, ours) if self.faster else Spread.of_ratios(ours, other)
        least, middle, to_unit = self.floor and min(taken[self.floor]), Spread.of(other).median, UNITS[self.unit]
        return {
            **{"section": section, "name": self.name, "unit": self.unit},
            **{"ours": Spread.of(ours).median * to_unit, "other": middle * to_unit},
            "target": self.target and asdict(self.target),
            "floor": least and {"ours": least * to_unit, "ratio": middle / least if self.faster else least / middle},
            "at": dict(self.at),
            "ratio": ratio.median,
            "ratio_is": FASTER if self.faster else "ours / other",
            "spread": [ratio.low, ratio.high],
            "rounds": ratio.rounds,
            "reached": self.target and self.target.reached(ratio.median),
        }


Found = Iterator[tuple[Taken, Ratio] | str]
"""What a section yields: ratios, each with what the cases of its comparison took, and notes."""


@dataclass
class Section:
    """A table of the report: what it shows, its rows, and what to know when reading it."""

    name: str
    title: str
    text: str = ""
    records: list[Record] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: bool = False  # for lack of a package
