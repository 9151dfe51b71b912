"""The results of a sweep: a cell for each configuration, with all its seeds, and the statistics of cells.

Cells fall into groups that compare with each other, each with one baseline. `delta` is the difference between the means
as printed. `spread` is the standard deviation of this difference taken seed by seed; it says how much could be chance.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

from diffmamba.paper.published import PublishedResult
from diffmamba.reports.records import Headline, SeedResult


@dataclass(frozen=True)
class Key:
    """What tells a cell from the others.

    Args:
        fields: begin each row of `table.json`; one of them is `model`, which has a colour of its own in pictures.
        label: the cell in words, as no other cell has them: `diff_mamba, outer norm, reparam`.
        is_baseline: whether the Δ of its group is taken to this cell.
        group: the group of cells that compare with each other, in words; "" where all cells do.
        published: what the paper prints for this cell.
        as_published: whether data and depth are the paper's.
    """

    fields: dict[str, Any] = field(compare=False)
    label: str
    is_baseline: bool
    group: str = ""
    published: PublishedResult = field(default_factory=PublishedResult)
    as_published: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Cell:
    """One configuration of the sweep with all its seeds: a row of a table.

    `baseline` is the cell that Δ is taken to, which may be this one; None where there is none.
    """

    key: Key
    seeds: tuple[SeedResult, ...]
    metric: Headline
    baseline: "Cell | None" = None

    @property
    def values(self) -> dict[int, float]:
        """The value of each seed that counts."""
        return {run.seed: run.value for run in self.seeds if run.value is not None}

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
        baseline = self.baseline.mean if self.baseline else None
        return None if self.mean is None or baseline is None else self.mean - baseline

    @property
    def spread(self) -> float | None:
        """s, the standard deviation of Δ taken seed by seed; None for the baseline and for fewer than two pairs."""
        pairs = {} if self.key.is_baseline or self.baseline is None else self.baseline.values
        return _std(value - pairs[seed] for seed, value in self.values.items() if seed in pairs)

    @property
    def sign(self) -> str:
        """✓ or ✗: whether Δ has the sign of the paper's; ~ if |Δ| does not exceed s or s is unknown; – without a Δ."""
        paper = self.key.published.delta
        if self.delta is None or not paper:
            return "–"
        if self.spread is None or abs(self.delta) <= self.spread:
            return "~"
        return "✓" if (self.delta < 0) == (paper < 0) else "✗"

    @property
    def status(self) -> str:
        """The first that holds: complete (all seeds count), partial (some do), running, failed, stopped, missing."""
        if self.values:
            return "complete" if len(self.values) == len(self.seeds) else "partial"
        found = {run.status for run in self.seeds}
        return next((name for name in ("running", "failed", "stopped") if name in found), "missing")

    @property
    def parameters(self) -> int | None:
        """Number of parameters of the network, if a record says so."""
        counts = (run.part("parameters").get("total") for run in self.seeds)
        return next((count for count in counts if isinstance(count, int)), None)

    @property
    def gaps(self) -> list[str]:
        """Why seeds do not count: a clause for each that has a record, and one for all that have not started."""
        started = (run for run in self.seeds if run.value is None and run.record)
        found = [f"seed {run.seed} {run.reason} (run {run.id})" for run in started]
        pending = [str(run.seed) for run in self.seeds if not run.record]
        return found + ([f"seed{'s' * (len(pending) > 1)} {', '.join(pending)} not started"] if pending else [])

    def fields(self) -> dict[str, Any]:
        """The row of `table.json`: the key, then what was measured, then what the paper prints."""
        return self.key.fields | {
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

    Args:
        settings: words of the command line that make these cells others than the plain sweep has.
        without_baseline: those of them that leave out the baseline of a group.
        sources: what is to be said of the sources that the runs were made by.
    """

    metric: Headline
    scale: str
    cells: tuple[Cell, ...]
    settings: tuple[str, ...] = ()
    without_baseline: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def groups(self) -> dict[str, list[Cell]]:
        """The cells that compare with each other, by group."""
        names = dict.fromkeys(cell.key.group for cell in self.cells)
        return {name: [cell for cell in self.cells if cell.key.group == name] for name in names}

    @property
    def runs(self) -> list[SeedResult]:
        """Every run of the sweep once, in its order. One may stand for several cells."""
        return list({run.id: run for cell in self.cells for run in cell.seeds}.values())

    @property
    def counted(self) -> list[SeedResult]:
        """The runs behind the means."""
        return [run for run in self.runs if run.value is not None]

    @property
    def complete(self) -> bool:
        """Whether every run counts."""
        return len(self.counted) == len(self.runs)

    @property
    def missing(self) -> list[str]:
        """For each cell with runs that do not count: which runs, and why."""
        return [f"{cell.key.label}: {'; '.join(cell.gaps)}" for cell in self.cells if cell.gaps]


def _std(numbers: Iterable[float]) -> float | None:
    found = list(numbers)
    return stdev(found) if len(found) > 1 else None
