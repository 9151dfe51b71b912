"""What the sections hand over: ratios with what they were made of, and the targets they are judged by."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.timing import Spread

UNITS = {"ms": 1e3, "µs": 1e6, "kB": 1e-3, "MB": 1e-6, "symbols/s": 1}  # per second or byte
Taken = Mapping[str, Sequence[float]]
"""What the cases of a comparison took, in seconds or bytes (or symbols per second), by case and round."""


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
        if self.most is None:
            return f"≥ {self.least:.3g}"
        return f"{self.least:.3g} to {self.most:.3g}"


@dataclass(frozen=True)
class Ratio:
    """Which ratio of a comparison to report: ours / other, or where `faster` other / ours.

    `ours`, `other` and `floor` name cases. The fastest round of the floor is the least that ours could take.
    `published` is the same ratio in the paper. `at` are the coordinates, for the pictures and for programs.
    """

    name: str
    ours: str = "ours"
    other: str = "other"
    unit: str = "ms"
    faster: bool = False
    target: Target | None = None
    floor: str | None = None
    published: float | None = None
    at: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """A ratio that was measured.

    `ours` and `other` are medians in the unit of `asked`, and so is `floor`. `ratio` is the median of the ratios of the
    single rounds, which need not be the ratio of the medians.
    """

    section: str
    asked: Ratio
    ours: float
    other: float
    ratio: Spread
    floor: float | None

    @classmethod
    def of(cls, section: str, asked: Ratio, taken: Taken) -> "Record":
        ours, other = ([value * UNITS[asked.unit] for value in taken[side]] for side in (asked.ours, asked.other))
        ratio = Spread.of_ratios(other, ours) if asked.faster else Spread.of_ratios(ours, other)
        floor = None if asked.floor is None else min(taken[asked.floor]) * UNITS[asked.unit]
        return cls(section, asked, Spread.of(ours).median, Spread.of(other).median, ratio, floor)

    @property
    def at(self) -> Mapping[str, Any]:
        return self.asked.at

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        return None if self.asked.target is None else self.asked.target.reached(self.ratio.median)

    @property
    def at_floor(self) -> float | None:
        """What the ratio would be with our side at its floor."""
        if self.floor is None:
            return None
        return self.other / self.floor if self.asked.faster else self.floor / self.other

    def as_dict(self) -> dict[str, Any]:
        """The record in the JSON file."""
        asked = self.asked
        return {
            **{"section": self.section, "name": asked.name, "ours": self.ours, "other": self.other, "unit": asked.unit},
            "target": asked.target and asdict(asked.target),
            "floor": self.floor and {"ours": self.floor, "ratio": self.at_floor},
            "published": asked.published,
            "at": dict(asked.at),
            "ratio": self.ratio.median,
            "ratio_is": "other / ours" if asked.faster else "ours / other",
            "spread": [self.ratio.low, self.ratio.high],
            "rounds": self.ratio.rounds,
            "reached": self.reached,
        }


@dataclass
class Section:
    """A table of the report: what it shows, its rows, and what to know when reading it."""

    name: str
    title: str
    text: str = ""
    records: list[Record] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
