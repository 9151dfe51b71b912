"""The results of a sweep: what a record says of one seed, a cell for each configuration, and the statistics of cells.

A record is the content of a run's `result.json`. It says which metric counts, how that prints and what is better. Cells
fall into groups that compare with each other, each with one baseline. `delta` is the difference between the means as
printed. `spread` is the standard deviation of this difference taken seed by seed; it says how much could be chance.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

from diffmamba.paper.published import Published

Record = Mapping[str, Any]
SCHEMA_1: Record = {"headline": "test/ppl", "metrics": {"ppl": {"label": "PPL", "better": "lower", "digits": 3}}}
"""What a record without `task` and `measure` is about: those were all trainings of language models."""


@dataclass(frozen=True)
class Headline:
    """The metric that counts. `key` is its name in records: `test/ppl`. `better` is lower, higher, or "" if unknown."""

    key: str
    label: str
    better: str = ""
    digits: int = 3

    @property
    def name(self) -> str:
        """The key without its split: `ppl`."""
        return self.key.rpartition("/")[2]

    def verdict(self, lower: str, higher: str) -> str:
        """Which of two words is better, such as `left is better` if lower values are; "" if the record does not say."""
        return {"lower": f"{lower} is better", "higher": f"{higher} is better"}.get(self.better, "")

    def text(self, number: float | None) -> str:
        """A value, or a standard deviation of values."""
        return "–" if number is None else f"{number:.{self.digits}f}"

    def difference(self, number: float | None) -> str:
        """A difference with its sign: a real minus sign, and no sign before a zero."""
        if number is None or round(number, self.digits) == 0:
            return self.text(None if number is None else 0.0)
        return f"{number:+.{self.digits}f}".replace("-", "−")


@dataclass(frozen=True)
class SeedResult:
    """One seed of a cell. `value` is set exactly when the run counts in a mean; `reason` says why it does not."""

    id: str
    seed: int
    status: str
    reason: str = ""
    value: float | None = None
    record: Record = field(default_factory=dict)

    def part(self, name: str) -> Record:
        """A part of the record, such as `git` or `corpus`; empty where it has none."""
        return self.record.get(name) or {}


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
    published: Published = field(default_factory=Published)
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
        """The first that holds: complete (all seeds count), partial (some do), running, failed (one is), missing."""
        if self.values:
            return "complete" if len(self.values) == len(self.seeds) else "partial"
        found = {run.status for run in self.seeds}
        return next((name for name in ("running", "failed") if name in found), "missing")

    @property
    def parameters(self) -> int | None:
        """Number of parameters of the network, if a record says so."""
        return next((count for run in self.seeds if (count := run.part("parameters").get("total")) is not None), None)

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
    """All cells of a sweep in its order. `settings` are words of the command line that apply to all runs."""

    metric: Headline
    scale: str
    cells: tuple[Cell, ...]
    settings: tuple[str, ...] = ()

    @property
    def groups(self) -> dict[str, list[Cell]]:
        """The cells that compare with each other, by group."""
        names = dict.fromkeys(cell.key.group for cell in self.cells)
        return {name: [cell for cell in self.cells if cell.key.group == name] for name in names}

    @property
    def runs(self) -> list[SeedResult]:
        """Every run of the sweep, in its order."""
        return [run for cell in self.cells for run in cell.seeds]

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


def headline(records: Iterable[Record], key: str | None) -> Headline:
    """The metric that `key` names, or that is the headline of these records, as the first record describes it."""
    described = [record.get("task") or record.get("measure") or SCHEMA_1 for record in records]
    for about in [*described, *[SCHEMA_1] * (key is not None)]:
        found = key or about["headline"]
        if words := about["metrics"].get(found.rpartition("/")[2]):
            return Headline(found, words["label"], words["better"], words["digits"])
    name = key or "result"
    return Headline(name, name.rpartition("/")[2])


def read(run_id: str, seed: int, record: Record | None, metric: Headline) -> SeedResult:
    """The result in `record`, if the run has started. One that finished without a finite metric has failed."""
    status = (record or {}).get("status", "pending")
    if record is None or status == "pending":
        return SeedResult(run_id, seed, "pending", "not started", record=record or {})
    if status != "finished":
        return SeedResult(run_id, seed, status, _reason(record), record=record)
    evaluated = record.get("values") if record.get("kind") == "measurement" else (record.get("evaluations") or [{}])[-1]
    value = _finite((evaluated or {}).get(metric.key))
    if value is None:
        return SeedResult(run_id, seed, "failed", f"finished without a finite {metric.key}", record=record)
    return SeedResult(run_id, seed, status, value=value, record=record)


def _reason(record: Record) -> str:
    """Why a run that has started does not count: `failed at step 120: loss is not finite`, `running at step 3 of 9`."""
    error, progress = record.get("error") or {}, record.get("progress") or {}
    if record["status"] == "failed":
        message = str(error.get("message") or error.get("type") or "no message").strip().splitlines()[0]
        return f"failed: {message}" if error.get("step") is None else f"failed at step {error['step']}: {message}"
    known = {"step", "steps"} <= set(progress)
    return record["status"] + (f" at step {progress['step']} of {progress['steps']}" if known else "")


def _finite(value: Any) -> float | None:
    """A number as float; None for NaN, infinity and what is no number."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _std(numbers: Iterable[float]) -> float | None:
    found = list(numbers)
    return stdev(found) if len(found) > 1 else None
