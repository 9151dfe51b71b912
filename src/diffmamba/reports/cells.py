"""The results of a sweep: one cell for each configuration, with all its seeds, and the statistics between cells.

Cells fall into groups that compare with each other, each with one baseline. Two differences to the baseline are
computed. `delta` is the difference between the means as printed. `spread` is the standard deviation of the same
difference taken seed by seed; it says how much of `delta` could be chance.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any, Self

from diffmamba.paper.published import Published
from diffmamba.reports.records import Headline, SeedResult

AGREES, DISAGREES, UNDECIDED, NO_SIGN = "✓✗~–"


@dataclass(frozen=True)
class Key:
    """What tells a cell from the others.

    Args:
        fields: begin each row of `table.json`; one of them is `model`.
        label: the cell in words, as no other cell has them: `diff_mamba, outer norm, reparam`.
        is_baseline: whether the Δ of its group is taken to this cell.
        group: the group of cells that compare with each other, in words; "" where all cells do.
        published: what the paper prints for this cell.
    """

    fields: dict[str, Any]
    label: str
    is_baseline: bool
    group: str = ""
    published: Published = field(default_factory=Published)

    @property
    def model(self) -> str:
        """The model, which has a colour of its own in pictures."""
        return str(self.fields["model"])


@dataclass(frozen=True)
class Cell:
    """One configuration of the sweep with all its seeds: a row of a table.

    Args:
        baseline: the value of the baseline by seed; empty if it has none.
        mean: over the seeds that count: finished, with a finite metric.
        std: the sample standard deviation over seeds; None for fewer than two.
        delta: the mean minus that of the baseline.
        spread: s, the standard deviation of Δ taken seed by seed; None for the baseline and for fewer than two pairs.
    """

    key: Key
    seeds: tuple[SeedResult, ...]
    metric: Headline
    baseline: Mapping[int, float]
    mean: float | None
    std: float | None
    delta: float | None
    spread: float | None

    @classmethod
    def of(cls, key: Key, seeds: tuple[SeedResult, ...], metric: Headline, baseline: Mapping[int, float]) -> Self:
        """The cell of these seeds with its statistics."""
        found = values(seeds)
        mean = fmean(found.values()) if found else None
        delta = None if mean is None or not baseline else mean - fmean(baseline.values())
        pairs = [value - baseline[seed] for seed, value in found.items() if seed in baseline and not key.is_baseline]
        return cls(key, seeds, metric, baseline, mean, _std(list(found.values())), delta, _std(pairs))

    @property
    def label(self) -> str:
        """The cell in words."""
        return self.key.label

    @property
    def counted(self) -> list[SeedResult]:
        """The seeds behind the mean."""
        return [result for result in self.seeds if result.value is not None]

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
        return self.key.fields | {
            "status": self.status,
            "seeds": list(values(self.seeds)),
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

    metric: Headline
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


def _std(numbers: Sequence[float]) -> float | None:
    return stdev(numbers) if len(numbers) > 1 else None
