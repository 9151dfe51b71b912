"""The results of a sweep: one cell for each configuration, with all its seeds, and the statistics between cells.

Cells fall into groups that compare with each other, each with one baseline. Two differences to the baseline are
computed. `delta` is the difference between the means as printed. `spread` is the standard deviation of the same
difference taken seed by seed; it says how much of `delta` could be chance.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, ClassVar, Self

from diffmamba.paper.published import Published
from diffmamba.reports.records import Metric, SeedResult

AGREES, DISAGREES, UNDECIDED, NO_SIGN = "✓✗~–"


class Key(ABC):
    """What tells cells apart: a frozen dataclass, whose fields begin each row of `table.json`."""

    model: str
    baseline: ClassVar[str]
    """In words, the cell that Δ is taken to."""

    @classmethod
    @abstractmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """The key of the cell that a run with this resolved configuration belongs to."""

    @property
    @abstractmethod
    def label(self) -> str:
        """The cell in words: `diff_mamba, outer norm, reparam`."""

    @property
    @abstractmethod
    def is_baseline(self) -> bool:
        """Whether the Δ of its group is taken to this cell."""

    @property
    def group(self) -> str:
        """The group of cells that compare with each other, in words; "" where all cells do."""
        return ""

    @property
    def published(self) -> Published:
        """What the paper prints for this cell; empty if nothing."""
        return Published()


@dataclass(frozen=True)
class Cell:
    """One configuration of the sweep: a row of a table. `baseline` maps seed to the value of the baseline."""

    key: Any  # the Key of the design
    seeds: tuple[SeedResult, ...]
    metric: Metric
    baseline: Mapping[int, float]

    @property
    def label(self) -> str:
        """The cell in words."""
        return str(self.key.label)

    @property
    def counted(self) -> tuple[SeedResult, ...]:
        """The seeds behind the mean: finished, with a finite metric."""
        return tuple(result for result in self.seeds if result.value is not None)

    @property
    def values(self) -> dict[int, float]:
        """The value of each seed that counts."""
        return values(self.seeds)

    @property
    def status(self) -> str:
        """The first that holds: complete (all seeds count), partial (some do), running, failed (one is), missing."""
        if self.counted:
            return "complete" if len(self.counted) == len(self.seeds) else "partial"
        found = {result.status for result in self.seeds}
        return next((name for name in ("running", "failed") if name in found), "missing")

    @property
    def parameters(self) -> int | None:
        """Number of parameters of the network, if a record says so."""
        counts = (result.part("parameters").get("total") for result in self.seeds)
        return next((count for count in counts if count is not None), None)

    @property
    def mean(self) -> float | None:
        """The mean over the seeds that count."""
        return fmean(self.values.values()) if self.values else None

    @property
    def std(self) -> float | None:
        """The sample standard deviation over seeds; None for fewer than two."""
        return _std(self.values.values())

    @property
    def delta(self) -> float | None:
        """The mean minus that of the baseline."""
        return None if self.mean is None or not self.baseline else self.mean - fmean(self.baseline.values())

    @property
    def spread(self) -> float | None:
        """s: the standard deviation of Δ taken seed by seed; None for the baseline and for fewer than two pairs."""
        pairs = [value - self.baseline[seed] for seed, value in self.values.items() if seed in self.baseline]
        return None if self.key.is_baseline else _std(pairs)

    @property
    def sign(self) -> str:
        """Whether Δ has the sign of the paper's."""
        return sign(self.delta, self.spread, self.key.published.delta)

    @property
    def gaps(self) -> list[str]:
        """The seeds that do not count, a clause for each; those that have not started together in the last clause."""
        pending = [str(result.seed) for result in self.seeds if result.status == "pending"]
        started = [result for result in self.seeds if result.value is None and result.status != "pending"]
        clauses = [f"seed {result.seed} {result.reason} (run {result.id})" for result in started]
        return clauses + ([f"seed{'s' * (len(pending) > 1)} {', '.join(pending)} not started"] if pending else [])

    def fields(self) -> dict[str, Any]:
        """The row of `table.json`: the key, then what was measured, then what the paper prints."""
        return vars(self.key) | {
            "status": self.status,
            "seeds": list(self.values),
            "params": self.parameters,
            f"{self.metric.name}_mean": self.mean,
            f"{self.metric.name}_std": self.std,
            "delta": self.delta,
            f"paper_{self.metric.name}": self.key.published.value,
            "paper_delta": self.key.published.delta,
        }


@dataclass(frozen=True)
class Results:
    """All cells of a sweep in its order.

    `hues` is the colour of each model in all pictures; `settings` are words of the command line that apply to all runs.
    """

    metric: Metric
    scale: str
    cells: tuple[Cell, ...]
    hues: Mapping[str, str]
    settings: tuple[str, ...] = ()

    @property
    def groups(self) -> dict[str, list[Cell]]:
        """The cells that compare with each other, by group."""
        names = dict.fromkeys(cell.key.group for cell in self.cells)
        return {name: [cell for cell in self.cells if cell.key.group == name] for name in names}

    @property
    def runs(self) -> list[SeedResult]:
        """Every run of the sweep, in its order."""
        return [result for cell in self.cells for result in cell.seeds]

    @property
    def counted(self) -> list[SeedResult]:
        """The runs behind the means."""
        return [result for cell in self.cells for result in cell.counted]

    @property
    def complete(self) -> bool:
        """Whether every run counts."""
        return len(self.counted) == len(self.runs)

    @property
    def missing(self) -> list[str]:
        """For each cell with runs that do not count: which runs, and why."""
        return [f"{cell.label}: {'; '.join(cell.gaps)}" for cell in self.cells if cell.gaps]


def values(seeds: Iterable[SeedResult]) -> dict[int, float]:
    """The value of each seed that counts."""
    return {result.seed: result.value for result in seeds if result.value is not None}


def sign(delta: float | None, spread: float | None, paper_delta: float | None) -> str:
    """✓ or ✗: whether `delta` has the sign of `paper_delta`; ~ if |delta| does not exceed the spread; – if unknown."""
    if delta is None or not paper_delta:
        return NO_SIGN
    if spread is None or abs(delta) <= spread:
        return UNDECIDED
    return AGREES if (delta < 0) == (paper_delta < 0) else DISAGREES


def _std(numbers: Iterable[float]) -> float | None:
    found = list(numbers)
    return stdev(found) if len(found) > 1 else None
