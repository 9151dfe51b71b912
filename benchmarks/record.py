"""What the sections hand over: ratios with what they were made of, and the targets they are judged by."""

from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.timing import Spread


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
class Floor:
    """The best that our side could be, in the unit of the record, and what that is."""

    ours: float
    what: str


@dataclass(frozen=True)
class Record:
    """One ratio.

    `ours` and `other` are medians in `unit`; `ratio` is the median of the ratios of the single rounds, so it need not
    be the ratio of the medians. `ratio_is` says which way round it is taken.
    """

    section: str
    name: str
    ours: float
    other: float
    unit: str
    ratio: Spread
    ratio_is: str  # "other / ours" or "ours / other"
    target: Target | None = None
    floor: Floor | None = None
    published: float | None = None  # the same ratio in the paper
    at: dict[str, Any] = field(default_factory=dict)  # the coordinates of the case, for the plot and for programs

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        return None if self.target is None else self.target.reached(self.ratio.median)

    @property
    def at_floor(self) -> float | None:
        """What the ratio would be with our side at its floor."""
        if self.floor is None:
            return None
        return self.other / self.floor.ours if self.ratio_is == "other / ours" else self.floor.ours / self.other

    def as_dict(self) -> dict[str, Any]:
        """The record in the JSON file."""
        return {
            "section": self.section,
            "name": self.name,
            "ours": self.ours,
            "other": self.other,
            "unit": self.unit,
            "ratio": self.ratio.median,
            "ratio_is": self.ratio_is,
            "spread": [self.ratio.low, self.ratio.high],
            "rounds": self.ratio.rounds,
            "target": None if self.target is None else {"least": self.target.least, "most": self.target.most},
            "reached": self.reached,
            "floor": None if self.floor is None else {**asdict(self.floor), "ratio": self.at_floor},
            "published": self.published,
            "at": self.at,
        }


def from_dict(content: dict[str, Any]) -> Record:
    """The inverse of `Record.as_dict`, for records that a child process measured."""
    low, high = content["spread"]
    target, floor = content["target"], content["floor"]
    return Record(
        ratio=Spread(content["ratio"], low, high, content["rounds"]),
        target=None if target is None else Target(**target),
        floor=None if floor is None else Floor(floor["ours"], floor["what"]),
        **{key: content[key] for key in ("section", "name", "ours", "other", "unit", "ratio_is", "published", "at")},
    )


@dataclass
class Section:
    """A table of the report: what it shows, its rows, and what to know when reading it."""

    name: str
    title: str
    text: str
    records: list[Record] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
