"""What every table of variants shares: the grid it expects, the row it prints, and the statistics between the two.

A table orders and fills itself from its cells, so an unfinished grid prints with its gaps named. Two differences to
plain Mamba appear: `delta`, between the means as printed, and `spread`, the standard deviation of the same difference
taken seed by seed, which says how much of `delta` could be chance.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from diffmamba.reports import record
from diffmamba.reports.published import Published
from diffmamba.reports.record import Run

BASELINE = ("mamba", False)  # model, outer norm: every Δ is taken to this cell

DELTA_RULE = (
    "Δ: PPL minus that of plain mamba, negative is better. s: standard deviation of Δ taken seed by seed. "
    "std and s are sample standard deviations over seeds."
)
SIGN_RULE = (
    "sign: ✓ Δ has the paper's sign, ✗ the opposite; ~ no verdict, because |Δ| does not exceed s or fewer than two "
    "seeds are shared with mamba. A ✓ at two or three seeds is a hint, not a test."
)


@dataclass(frozen=True)
class Cell:
    """One configuration of the grid with all its seeds: `runs` maps seed to run id. λ form `None`: there is no λ."""

    model: str
    outer_norm: bool
    lambda_form: str | None
    runs: Mapping[int, str]

    @property
    def label(self) -> str:
        """The cell in words: `diff_mamba, outer norm, reparam`."""
        return ", ".join(filter(None, [self.model, "outer norm" * self.outer_norm, self.lambda_form]))


@dataclass(frozen=True)
class Row:
    """One row of `table.json`; the fields are its keys, in order.

    `status` is the first that holds: `complete` (every seed counts), `partial` (some do), `running` (one is running),
    `failed` (one failed), `missing`. `seeds` lists the seeds that count: finished, with a finite metric.
    """

    model: str
    outer_norm: bool
    lambda_form: str | None
    status: str
    seeds: list[int]
    params: int | None
    ppl_mean: float | None
    ppl_std: float | None
    delta: float | None
    paper_ppl: float | None
    paper_delta: float | None


@dataclass(frozen=True)
class Line:
    """A row with what only a reader sees: its runs, `spread` (the s of `DELTA_RULE`) and the verdict on the sign."""

    cell: Cell
    runs: tuple[Run, ...]
    row: Row
    spread: float | None
    sign: str

    @property
    def counted(self) -> tuple[Run, ...]:
        """The runs behind the mean."""
        return tuple(run for run in self.runs if run.ppl is not None)


@dataclass(frozen=True)
class Table:
    """A table ready to print, write or draw."""

    name: str
    title: str
    scale: str
    metric: str
    lines: tuple[Line, ...]
    caveats: tuple[str, ...]

    @property
    def rows(self) -> list[Row]:
        """The rows of `table.json`."""
        return [line.row for line in self.lines]

    @property
    def runs(self) -> list[Run]:
        """Every run of the grid, in grid order."""
        return [run for line in self.lines for run in line.runs]

    @property
    def counted(self) -> list[Run]:
        """The runs behind the means."""
        return [run for line in self.lines for run in line.counted]


def lines(
    cells: Sequence[Cell],
    records: Mapping[str, dict[str, Any]],
    metric: str,
    published: Callable[[Cell], Published],
) -> tuple[Line, ...]:
    """One line per cell, in the order of `cells`."""
    runs = [_runs(cell, records, metric) for cell in cells]
    baseline = next((_ppl(r) for c, r in zip(cells, runs, strict=True) if (c.model, c.outer_norm) == BASELINE), {})
    return tuple(_line(cell, r, baseline, published(cell)) for cell, r in zip(cells, runs, strict=True))


def missing(table: Table) -> list[str]:
    """One sentence per cell with runs that do not count, saying which and why."""
    return [
        f"{line.cell.label}: " + "; ".join(_gaps(line.runs)) for line in table.lines if line.row.status != "complete"
    ]


def status(runs: Sequence[Run]) -> str:
    """The status of a cell from its runs: see `Row`."""
    counts = [run.ppl is not None for run in runs]
    if any(counts):
        return "complete" if all(counts) else "partial"
    found = {run.status for run in runs}
    return next((name for name in ("running", "failed") if name in found), "missing")


def sign(delta: float | None, spread: float | None, paper_delta: float | None) -> str:
    """Whether `delta` has the paper's sign, by `SIGN_RULE`; "–" where one of the two does not exist or is zero."""
    if delta is None or not paper_delta:
        return "–"
    if spread is None or abs(delta) <= spread:
        return "~"
    return "✓" if (delta < 0) == (paper_delta < 0) else "✗"


def _runs(cell: Cell, records: Mapping[str, dict[str, Any]], metric: str) -> tuple[Run, ...]:
    return tuple(record.read(run_id, seed, records.get(run_id), metric) for seed, run_id in sorted(cell.runs.items()))


def _ppl(runs: Sequence[Run]) -> dict[int, float]:
    return {run.seed: run.ppl for run in runs if run.ppl is not None}


def _line(cell: Cell, runs: tuple[Run, ...], baseline: dict[int, float], paper: Published) -> Line:
    ppl = _ppl(runs)
    row = Row(
        model=cell.model,
        outer_norm=cell.outer_norm,
        lambda_form=cell.lambda_form,
        status=status(runs),
        seeds=list(ppl),
        params=next((run.parameters for run in runs if run.parameters is not None), None),
        ppl_mean=fmean(ppl.values()) if ppl else None,
        ppl_std=_std(list(ppl.values())),
        delta=fmean(ppl.values()) - fmean(baseline.values()) if ppl and baseline else None,
        paper_ppl=paper.ppl,
        paper_delta=paper.delta,
    )
    is_baseline = (cell.model, cell.outer_norm) == BASELINE
    spread = None if is_baseline else _std([ppl[seed] - baseline[seed] for seed in ppl if seed in baseline])
    return Line(cell, runs, row, spread, sign(row.delta, spread, row.paper_delta))


def _std(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None


def _gaps(runs: Sequence[Run]) -> list[str]:
    """The runs that do not count: one clause each, those that have not started together in the last."""
    pending = [str(run.seed) for run in runs if run.status == "pending"]
    started = [run for run in runs if run.ppl is None and run.status != "pending"]
    clauses = [f"seed {run.seed} {run.reason} (run {run.id})" for run in started]
    return clauses + ([f"seed{'s' * (len(pending) > 1)} {', '.join(pending)} not started"] if pending else [])
