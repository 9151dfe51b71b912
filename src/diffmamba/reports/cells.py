"""The results of a sweep: a cell for each configuration, with all its seeds, and the statistics of cells.

Cells fall into groups that compare with each other, each with one baseline. `compared` compares every cell with its
baseline, paired by seed. What is found holds for all rows of the table together (`diffmamba.reports.statistics`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev
from typing import Any

from diffmamba.paper.published import PublishedResult
from diffmamba.reports import statistics
from diffmamba.reports.records import NO_MEMORY, Headline, SeedResult
from diffmamba.reports.statistics import Comparison, Interval


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

    `baseline` is the cell that Δ is taken to, which may be this one; None where there is none. `comparison` is what
    their seeds say together; None for the baseline, and where there is no Δ.
    """

    key: Key
    seeds: tuple[SeedResult, ...]
    metric: Headline
    baseline: "Cell | None" = None
    comparison: Comparison | None = None

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
        found = list(self.values.values())
        return stdev(found) if len(found) > 1 else None

    @property
    def mean_interval(self) -> Interval | None:
        """Where the true mean lies, for this cell alone; None for fewer than two seeds and for equal ones."""
        return statistics.mean_interval(list(self.values.values()))

    @property
    def pairs(self) -> dict[int, tuple[float, float]]:
        """The value of this cell and that of its baseline, for each seed that counts in both."""
        baseline = self.baseline.values if self.baseline else {}
        return {seed: (value, baseline[seed]) for seed, value in self.values.items() if seed in baseline}

    @property
    def delta(self) -> float | None:
        """The mean minus that of the baseline, over the seeds of both; None if they share none."""
        if not self.pairs:
            return None
        ours, theirs = zip(*self.pairs.values(), strict=True)
        return fmean(ours) - fmean(theirs)

    @property
    def unpaired(self) -> bool:
        """Whether this cell and its baseline both have values, but of no seed that both have."""
        return bool(self.baseline and self.baseline.values and self.values and not self.pairs)

    @property
    def spread(self) -> float | None:
        """s, the standard deviation of Δ taken seed by seed; None for the baseline and for fewer than two pairs."""
        return self.comparison.spread if self.comparison else None

    @property
    def interval(self) -> Interval | None:
        """Where the true Δ lies, for all rows together; None where `comparison` says why not."""
        return self.comparison.interval if self.comparison else None

    @property
    def seeds_needed(self) -> int | None:
        """The seeds that would see the published Δ, if it were true and the spread as here."""
        return self.comparison.seeds_needed(self.key.published.delta) if self.comparison else None

    @property
    def sign(self) -> str:
        """✓ or ✗: whether the interval of Δ has the sign of the paper's; ~ if it holds 0 or is missing; – without Δ."""
        paper = self.key.published.delta
        return self._verdict("✓", "✗", -1 if paper < 0 else 1) if paper else "–"

    @property
    def differs(self) -> str:
        """`better` or `worse` than the baseline if the interval says so, else ~; – without Δ.

        `lower` or `higher` where the record does not say which is better.
        """
        words = {"lower": ("better", "worse"), "higher": ("worse", "better")}
        return self._verdict(*words.get(self.metric.better, ("lower", "higher")), -1)

    def _verdict(self, on_side: str, on_other: str, side: int) -> str:
        """Which word fits the interval, whose `side` the first one names."""
        if self.comparison is None:
            return "–"
        return {side: on_side, -side: on_other}.get(self.interval.side if self.interval else 0, "~")

    @property
    def status(self) -> str:
        """The first that holds: complete (all seeds count), partial, running, failed, stopped, damaged, missing.

        A folded seed may be partial itself, and after all these a cell may be out of memory.
        """
        if self.values:
            return "complete" if len(self.values) == len(self.seeds) else "partial"
        found = {run.status for run in self.seeds}
        return next(
            (name for name in ("running", "failed", "stopped", "damaged", "partial", NO_MEMORY) if name in found),
            "missing",
        )

    @property
    def parameters(self) -> int | None:
        """Number of parameters of the network, if a record says so."""
        counts = (run.part("parameters").get("total") for run in self.seeds)
        return next((count for count in counts if isinstance(count, int)), None)

    @property
    def gaps(self) -> list[str]:
        """Why seeds do not count: a clause for each that has a record, and one for all that have not started."""
        started = (run for run in self.seeds if run.value is None and run.record and run.status != NO_MEMORY)
        found = [f"seed {run.seed} {run.reason}" + f" (run {run.id})" * bool(run.id) for run in started]
        pending = [str(run.seed) for run in self.seeds if not run.record]
        return found + ([f"seed{'s' * (len(pending) > 1)} {', '.join(pending)} not started"] if pending else [])

    def fields(self) -> dict[str, Any]:
        """The row of `table.json`: the key, what was measured, what the paper prints, what the seeds allow to say."""
        found, mean, delta = self.comparison, self.mean_interval, self.interval
        return self.key.fields | {
            "status": self.status,
            "seeds": list(self.values),
            "params": self.parameters,
            f"{self.metric.name}_mean": self.mean,
            f"{self.metric.name}_std": self.std,
            "delta": self.delta,
            f"paper_{self.metric.name}": self.key.published.value,
            "paper_delta": self.key.published.delta,
            f"{self.metric.name}_low": mean.low if mean else None,
            f"{self.metric.name}_high": mean.high if mean else None,
            "s": self.spread,
            "delta_low": delta.low if delta else None,
            "delta_high": delta.high if delta else None,
            "p": found.p if found else None,
            "p_corrected": found.p_corrected if found else None,
            "smallest_delta": found.smallest if found else None,
            "seeds_needed": self.seeds_needed,
            "sign": self.sign,
        }


def compared(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """These cells, each with the baseline of its group and the comparison with it.

    All cells with a Δ, but not the baselines themselves, are the rows that are compared.
    """
    baselines = {cell.key.group: cell for cell in cells if cell.key.is_baseline}
    return against([replace(cell, baseline=baselines.get(cell.key.group)) for cell in cells])


def against(paired: Sequence[Cell]) -> tuple[Cell, ...]:
    """These cells, which have baselines, with their comparisons."""
    rows = [cell for cell in paired if cell.delta is not None and not cell.key.is_baseline]
    values = (tuple(zip(*cell.pairs.values(), strict=True)) for cell in rows)
    found = dict(zip(map(id, rows), statistics.compared([(ours, theirs) for ours, theirs in values]), strict=True))
    return tuple(replace(cell, comparison=found.get(id(cell))) for cell in paired)


@dataclass(frozen=True)
class Results:
    """All cells of a sweep in its order.

    Args:
        settings: words of the command line that make these cells others than the plain sweep has.
        without_baseline: those of them that leave out the baseline of a group.
        sources: what is to be said of the sources that the runs were made by.
        fine: the cells of which each seed is a run, where those of the table were folded from several of them.
    """

    metric: Headline
    scale: str
    cells: tuple[Cell, ...]
    settings: tuple[str, ...] = ()
    without_baseline: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    fine: tuple[Cell, ...] = ()

    @property
    def planned(self) -> tuple[Cell, ...]:
        """The cells of which each seed is a run of the sweep."""
        return self.fine or self.cells

    @property
    def groups(self) -> dict[str, list[Cell]]:
        """The cells that compare with each other, by group."""
        names = dict.fromkeys(cell.key.group for cell in self.cells)
        return {name: [cell for cell in self.cells if cell.key.group == name] for name in names}

    @property
    def comparisons(self) -> dict[str, Comparison]:
        """What each row that is compared with its baseline says, by the label of its cell."""
        return {cell.key.label: cell.comparison for cell in self.cells if cell.comparison}

    @property
    def runs(self) -> list[SeedResult]:
        """Every run of the sweep once, in its order. One may stand for several cells."""
        return list({run.id: run for cell in self.planned for run in cell.seeds}.values())

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
