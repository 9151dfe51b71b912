"""What every table shares: the grid it expects, the row it prints, and the statistics between the two.

A table orders and fills itself from its cells, so an unfinished grid prints with its gaps named. Its cells fall into
groups that are compared, each with its baseline, to which two differences appear: `delta`, between the means as
printed, and `spread`, the standard deviation of the same difference taken seed by seed, which says how much of `delta`
could be chance. What makes one published table different from the next is its `Design`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, ClassVar, Self

from rich.console import Console

from diffmamba.paper.published import Published
from diffmamba.reports import record
from diffmamba.reports.record import Run

SIGN_RULE = (
    "sign: ✓ Δ has the paper's sign, ✗ the opposite; ~ no verdict, because |Δ| does not exceed s or fewer than two "
    "seeds are shared with mamba. A ✓ at two or three seeds is a hint, not a test."
)


class Key(ABC):
    """What tells the cells of a table apart: a frozen dataclass whose fields begin each row of `table.json`."""

    model: str
    baseline: ClassVar[str]
    """The cell that Δ is taken to, in words."""

    @classmethod
    @abstractmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """The key of the cell that a run with this resolved configuration belongs to."""

    def fields(self) -> dict[str, Any]:
        """The fields in order."""
        return dict(vars(self))

    @property
    @abstractmethod
    def label(self) -> str:
        """The cell in words: `diff_mamba, outer norm, reparam`."""

    @property
    @abstractmethod
    def group(self) -> str:
        """The group of cells that compare with each other, in words; "" where all do."""

    @property
    @abstractmethod
    def is_baseline(self) -> bool:
        """Whether the Δ of its group is taken to this cell."""

    @property
    @abstractmethod
    def published(self) -> Published:
        """What the paper prints for this cell."""


@dataclass(frozen=True)
class Cell:
    """One configuration of the grid with all its seeds: `runs` maps seed to run id."""

    key: Key
    runs: Mapping[int, str]

    @property
    def label(self) -> str:
        """The cell in words."""
        return self.key.label


@dataclass(frozen=True)
class Row:
    """The measured part of a row of `table.json`; the fields are its keys, in order, after those of the cell's key.

    `status` is the first that holds: `complete` (every seed counts), `partial` (some do), `running` (one is running),
    `failed` (one failed), `missing`. `seeds` lists the seeds that count: finished, with a finite metric.
    """

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
    """A row with what only a reader sees: its runs, `spread` (the s of `Table.delta_rule`), the verdict on the sign."""

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
class Column:
    """One column: its header, the text of a line in it, whether that is a word (left) or a number (right).

    `mark` says what the text means where it means more than itself: `gap`, `agrees`, `disagrees`, `undecided`.
    """

    header: str
    text: Callable[[Line], str]
    word: bool = False
    mark: Callable[[Line], str] = lambda line: ""


@dataclass(frozen=True)
class Picture:
    """A picture on the page of a table: SVG, what it shows, how to read it; `broad` takes all the width."""

    heading: str
    svg: bytes
    alt: str
    caption: str
    broad: bool = True


@dataclass(frozen=True)
class Design:
    """One table of the paper. A table of ours is a design filled with the runs of the sweep of the same `name`.

    The first column names the section that a line belongs to, and is shown once for each; `titled` gives it a line of
    its own above the section, for long names. `caveats` are what a reader at this scale has to know; `remarks` hold at
    any scale. `further` are fields that end each row of `table.json`.
    """

    name: str
    title: str
    key: type[Key]
    columns: tuple[Column, ...]
    caveats: Callable[[str, Sequence[Line]], tuple[str, ...]]
    pictures: Callable[["Table"], list[Picture]]
    titled: bool = False
    remarks: Callable[[], tuple[str, ...]] = tuple
    further: Callable[[Line], dict[str, Any]] = lambda line: {}


@dataclass(frozen=True)
class Table:
    """A table ready to print, write or draw."""

    design: Design
    scale: str
    metric: str
    lines: tuple[Line, ...]
    caveats: tuple[str, ...]

    @property
    def delta_rule(self) -> str:
        """What Δ and s are."""
        return (
            f"Δ: PPL minus that of {self.design.key.baseline}, negative is better. s: standard deviation of Δ taken "
            "seed by seed. std and s are sample standard deviations over seeds."
        )

    @property
    def rows(self) -> list[Row]:
        """The measured part of each line."""
        return [line.row for line in self.lines]

    @property
    def sections(self) -> list[tuple[str, list[Line]]]:
        """The lines under the name that their first column shares."""
        return [(name, list(lines)) for name, lines in groupby(self.lines, key=self.design.columns[0].text)]

    @property
    def groups(self) -> dict[str, list[Line]]:
        """The lines that compare with each other, by group."""
        names = dict.fromkeys(line.cell.key.group for line in self.lines)
        return {name: [line for line in self.lines if line.cell.key.group == name] for name in names}

    @property
    def runs(self) -> list[Run]:
        """Every run of the grid, in grid order."""
        return [run for line in self.lines for run in line.runs]

    @property
    def counted(self) -> list[Run]:
        """The runs behind the means."""
        return [run for line in self.lines for run in line.counted]

    def content(self) -> list[dict[str, Any]]:
        """The rows of `table.json`."""
        return [line.cell.key.fields() | asdict(line.row) | self.design.further(line) for line in self.lines]


@dataclass(frozen=True)
class View:
    """What can be asked for by `name`: the table called `table` itself, or a figure drawn from it.

    `show` prints it; `write` puts its files into a directory and returns their paths, the page last.
    """

    name: str
    table: str
    show: Callable[[Table, Console], None]
    write: Callable[[Table, Path], list[Path]]


def lines(cells: Sequence[Cell], records: Mapping[str, dict[str, Any]], metric: str) -> tuple[Line, ...]:
    """One line per cell, in the order of `cells`."""
    runs = [_runs(cell, records, metric) for cell in cells]
    baselines = {c.key.group: _ppl(r) for c, r in zip(cells, runs, strict=True) if c.key.is_baseline}
    return tuple(_line(cell, r, baselines.get(cell.key.group, {})) for cell, r in zip(cells, runs, strict=True))


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


def _line(cell: Cell, runs: tuple[Run, ...], baseline: dict[int, float]) -> Line:
    ppl, paper = _ppl(runs), cell.key.published
    row = Row(
        status=status(runs),
        seeds=list(ppl),
        params=next((run.parameters for run in runs if run.parameters is not None), None),
        ppl_mean=fmean(ppl.values()) if ppl else None,
        ppl_std=_std(list(ppl.values())),
        delta=fmean(ppl.values()) - fmean(baseline.values()) if ppl and baseline else None,
        paper_ppl=paper.ppl,
        paper_delta=paper.delta,
    )
    paired = [ppl[seed] - baseline[seed] for seed in ppl if seed in baseline]
    spread = None if cell.key.is_baseline else _std(paired)
    return Line(cell, runs, row, spread, sign(row.delta, spread, row.paper_delta))


def _std(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None


def _gaps(runs: Sequence[Run]) -> list[str]:
    """The runs that do not count: one clause each, those that have not started together in the last."""
    pending = [str(run.seed) for run in runs if run.status == "pending"]
    started = [run for run in runs if run.ppl is None and run.status != "pending"]
    clauses = [f"seed {run.seed} {run.reason} (run {run.id})" for run in started]
    return clauses + ([f"seed{'s' * (len(pending) > 1)} {', '.join(pending)} not started"] if pending else [])
