"""Tables and figures of the paper as pure functions of run records, beside the numbers that the paper prints.

    table = build("table2", cells, records, scale="smoke")
    show(table, console)            # terminal or plain text
    write(table, directory)         # table.json, table.csv, table.md, index.html

`cells` is the grid that is expected, in the order in which it is to be printed; `records` maps run id to the content
of that run's `result.json`. What is not there yet is printed as missing. A new table is a module like `table2` and one
entry in `BUILDERS`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from diffmamba.errors import SettingError
from diffmamba.reports import table2
from diffmamba.reports.console import show
from diffmamba.reports.files import write
from diffmamba.reports.table import Cell, Table

__all__ = ["Cell", "Table", "build", "show", "tables", "write"]

BUILDERS = {table2.NAME: table2.build}


def tables() -> list[str]:
    """The names of the tables that can be built."""
    return sorted(BUILDERS)


def build(table_name: str, cells: Sequence[Cell], records: Mapping[str, dict[str, Any]], scale: str) -> Table:
    """The table called `table_name`, with one line per cell in the order of `cells`."""
    if table_name not in BUILDERS:
        raise SettingError(f"there is no table {table_name!r}; table can be: {', '.join(tables())}")
    return BUILDERS[table_name](cells, records, scale)
