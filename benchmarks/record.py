"""What the sections hand over: ratios with what they were made of, and the targets they are judged by."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.timing import Spread

UNITS = {"ms": 1e3, "µs": 1e6, "kB": 1e-3, "MB": 1e-6, "symbols/s": 1}  # per second or byte


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
class Record:
    """One ratio.

    `ours` and `other` are medians in `unit`, `floor` the best that ours could be. `ratio` is ours / other, or where
    `faster` other / ours: the median of the ratios of the single rounds, which need not be the ratio of the medians.
    `at` are the coordinates of the case, for the pictures and for programs.
    """

    section: str
    name: str
    ours: float
    other: float
    unit: str
    ratio: Spread
    faster: bool
    target: Target | None
    floor: float | None
    published: float | None  # the same ratio in the paper
    at: dict[str, Any]

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        return None if self.target is None else self.target.reached(self.ratio.median)

    @property
    def at_floor(self) -> float | None:
        """What the ratio would be with our side at its floor."""
        if self.floor is None:
            return None
        return self.other / self.floor if self.faster else self.floor / self.other

    def as_dict(self) -> dict[str, Any]:
        """The record in the JSON file."""
        return {
            **{key: value for key, value in vars(self).items() if key not in ("ratio", "faster")},
            "ratio": self.ratio.median,
            "ratio_is": "other / ours" if self.faster else "ours / other",
            "spread": [self.ratio.low, self.ratio.high],
            "rounds": self.ratio.rounds,
            "target": self.target and asdict(self.target),
            "reached": self.reached,
            "floor": self.floor and {"ours": self.floor, "ratio": self.at_floor},
        }


@dataclass
class Section:
    """A table of the report: what it shows, its rows, and what to know when reading it."""

    name: str
    title: str
    text: str
    records: list[Record] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(
        self,
        name: str,
        ours: Iterable[float],
        other: Iterable[float],
        *,
        unit: str = "ms",
        faster: bool = False,
        target: Target | None = None,
        floor: float | None = None,
        published: float | None = None,
        **at: Any,
    ) -> None:
        """Appends the record of a comparison: what both sides took, and the floor, in seconds or bytes."""
        ours, other = ([value * UNITS[unit] for value in side] for side in (ours, other))
        middles = (Spread.of(side).median for side in (ours, other))
        ratio = Spread.of_ratios(other, ours) if faster else Spread.of_ratios(ours, other)
        least = None if floor is None else floor * UNITS[unit]
        self.records.append(Record(self.name, name, *middles, unit, ratio, faster, target, least, published, at))
