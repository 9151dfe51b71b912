"""What makes one published table or figure different from the next, and how records fill it. See `designs/`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from diffmamba.document import Chart, Document
from diffmamba.errors import SettingError
from diffmamba.reports.cells import Cell, Key, Results, compared
from diffmamba.reports.charts import points
from diffmamba.reports.columns import Column
from diffmamba.reports.records import Record, cleaned, headline, rank, read


@dataclass(frozen=True)
class Design:
    """A table or a figure, filled with the runs of its sweep.

    Args:
        name: that of its file, which begins with `table` or `figure`; of the folder of its page.
        sweep: a file of sweeps/.
        key: the key of the cell that a run with this resolved configuration belongs to.
        baseline: in words, the cell that Δ is taken to; "" if there is none.
        columns: of the table. Where cells have a group, it stands as a title above them; where not, cells that follow
            each other with the same first column share it.
        charts: its pictures. The first of a figure is the figure.
        metric: the key of the metric; None for the headline that the records name.
        setting: that of the paper's numbers, in words, for results of another one.
        remarks: what is to be said about the paper's numbers, whatever the results are.
        further: fields that end each row of `table.json`.
        kind: `table`, `figure`, or `sweep` for a table that was made for a sweep.
        notes: what is to be said of the table, whatever the results are.
        notes_on: what is to be said of the table with these results.
        counting: the statuses of the runs that count.
        fold: makes the cells of the table, where a cell is not one configuration with its seeds but is computed from
            several of these. It is given cells that are not compared yet, and keeps them as `Results.fine`.
        points: what the CSV file beside the pictures holds; None for the rows of the table.
        tables: further CSV files, by their names: what neither the rows nor `points` hold of these results.
        effects: differences between cells that are asked for by themselves, each as a cell with a baseline of its own.
            They have a section of their own, and their intervals hold for all of them together.
        asked: what the command line said of the page of a sweep: its baseline, its title.
    """

    name: str
    title: str
    sweep: str
    key: Callable[[Mapping[str, Any]], Key]
    baseline: str
    columns: tuple[Column, ...]
    charts: Callable[[Results], Sequence[Chart]]
    metric: str | None = None
    setting: str = ""
    remarks: Callable[[], Sequence[str]] = tuple
    further: Callable[[Cell], dict[str, Any]] = lambda cell: {}
    kind: Literal["table", "figure", "sweep"] = "table"
    notes: tuple[str, ...] = ()
    notes_on: Callable[[Results], Sequence[str]] = lambda results: ()
    counting: tuple[str, ...] = ("finished",)
    fold: Callable[[Results], Results] = lambda results: results
    points: Callable[[Results], pd.DataFrame] | None = points
    tables: Callable[[Results], Mapping[str, pd.DataFrame]] = lambda results: {}
    effects: Callable[[Results], Sequence[Cell]] = lambda results: ()
    asked: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FileDesign:
    """A figure that is made of a file, not of runs.

    Args:
        name: that of its file, which begins with `figure`; the folder of its page begins with it.
        document: the page of a file. Its data have `rows`, and its first chart is the figure.
            Raises SettingError, which names the setting `predictions`, for a file that cannot be used.
        needs: what the file must hold, in words.
    """

    name: str
    title: str
    document: Callable[[Path], Document]
    needs: str
    kind: Literal["figure"] = "figure"


def results(
    design: Design,
    planned: Iterable[tuple[str, Mapping[str, Any]]],
    found: Mapping[str, Record],
    scale: str,
    settings: Sequence[str] = (),
    rows_of: Callable[[str], pd.DataFrame] | None = None,
) -> Results:
    """The results of the planned runs, each an id and a resolved configuration, in their order.

    `found` holds the records by run id; a run without one has not started. `settings` are words of the command line
    that make these cells others than the plain sweep has. `rows_of` reads the rows of a measurement from the store.
    Raises SettingError if there is no run, if two runs belong to the same cell and seed, or if one is to be read in two
    ways.
    """
    ids: dict[Key, dict[int, str]] = {}
    fields: dict[tuple[Key, str], Mapping[str, Any]] = {}
    for run_id, config in planned:
        key, seed = design.key(config), config["seed"]
        for name, told in fields.setdefault((key, run_id), key.fields).items():
            if (other := key.fields[name]) != told:  # of one run, so it reads neither
                raise SettingError(f"published.{name}={told} and {other}: {design.name} has one; give it one value")
        if ids.setdefault(key, {}).setdefault(seed, run_id) != run_id:
            raise SettingError(
                f"{design.name} has one run for {key.label}, seed {seed}, but these settings make two; "
                "give each setting that the table does not list one value"
            )
    if not ids:
        raise SettingError(f"{design.name}: these settings leave no run; give each of them at least one value")
    planned_ids = [run_id for by_seed in ids.values() for run_id in by_seed.values()]
    records = {run_id: cleaned(found[run_id]) for run_id in planned_ids if run_id in found}
    metric = headline(records.values(), design.metric)
    cells = []
    for key, by_seed in ids.items():
        runs = ((by_seed[seed], seed, records.get(by_seed[seed])) for seed in sorted(by_seed, key=rank))
        seeds = (replace(read(*run, metric, design.counting), rows_of=rows_of) for run in runs)
        cells.append(Cell(key, tuple(seeds), metric))
    groups = list(dict.fromkeys(cell.key.group for cell in cells))
    cells.sort(key=lambda cell: groups.index(cell.key.group))  # those of a group stand together
    folded = design.fold(Results(metric, scale, tuple(cells), tuple(settings)))
    return replace(folded, cells=compared(folded.cells))
