"""Tables and figures of the paper as pure functions of run records, beside the numbers that the paper prints.

    expected = cells("table2", [(run.id, run.config), ...])
    table = build("table2", expected, records, scale="smoke")
    show(table, console)            # terminal or plain text
    write(table, directory)         # table.json, table.csv, table.md, index.html

The cells are the grid that is expected, in the order in which it is to be printed; `records` maps run id to the content
of that run's `result.json`. What is not there yet is printed as missing. A new table is a module like `table2` and one
entry in `DESIGNS`. A figure is another view of a table: a module like `figure2` and one entry in `FIGURES`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from diffmamba.errors import SettingError
from diffmamba.paper import published
from diffmamba.reports import figure2, table1, table2
from diffmamba.reports.console import show
from diffmamba.reports.files import write
from diffmamba.reports.table import Cell, Key, Table, View, lines

__all__ = ["Cell", "Table", "build", "cells", "figures", "show", "tables", "view", "write"]

DESIGNS = {design.name: design for design in (table1.DESIGN, table2.DESIGN)}
TABLES = {name: View(name, name, show, write) for name in DESIGNS}
FIGURES = {view.name: view for view in (figure2.VIEW,)}


def tables() -> list[str]:
    """The names of the tables that can be built."""
    return sorted(TABLES)


def figures() -> list[str]:
    """The names of the figures that can be drawn."""
    return sorted(FIGURES)


def view(table: str = "", figure: str = "") -> View:
    """The table or the figure of this name."""
    if table and figure:
        raise SettingError(f"table={table} and figure={figure}: one at a time; leave one of them out")
    kind, name, known = ("figure", figure, FIGURES) if figure else ("table", table, TABLES)
    if name not in known:
        raise SettingError(f"{kind}={name} is not known; use one of {', '.join(sorted(known))}")
    return known[name]


def cells(table: str, runs: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Cell]:
    """The cells of the grid of `runs`, each an id and a resolved configuration, in grid order with every seed's run."""
    found: dict[Key, dict[int, str]] = {}
    for run_id, config in runs:
        key = DESIGNS[table].key.of(config)
        seeds = found.setdefault(key, {})
        if config["seed"] in seeds:
            raise SettingError(
                f"{table} has one run for {key.label}, seed {config['seed']}, but these settings make two; "
                "give each setting that the table does not list one value"
            )
        seeds[config["seed"]] = run_id
    return [Cell(key, by_seed) for key, by_seed in found.items()]


def build(table: str, cells: Sequence[Cell], records: Mapping[str, dict[str, Any]], scale: str) -> Table:
    """The table of this name, with one line per cell in the order of `cells`."""
    if table not in DESIGNS:
        raise SettingError(f"there is no table {table!r}; table can be: {', '.join(tables())}")
    metric = published.numbers()[table]["metric"]
    found = lines(cells, records, metric)
    return Table(DESIGNS[table], scale, metric, found, DESIGNS[table].caveats(scale, found))
