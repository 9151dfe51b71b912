"""A table in the terminal, or as plain text in a file: whole at 80 columns, with room to breathe from 100 on."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from diffmamba.reports import columns, provenance
from diffmamba.reports.table import SIGN_RULE, Column, Line, Table, missing

ROOMY = 100  # console width from which a second blank separates the columns
STYLES = {"agrees": "green", "disagrees": "red", "undecided": "dim", "gap": "yellow"}


def show(table: Table, console: Console) -> None:
    """Print `table`, how to read it, and what is missing from it."""
    console.print(Text(f"{table.design.title}. Scale {table.scale}, {table.metric}.", style="bold"))
    (_show_titled if table.design.titled else _show_plain)(table, console)
    for sentence in (table.delta_rule, SIGN_RULE):
        console.print(Text(sentence, style="dim"))
    show_notes(table, console)


def show_notes(table: Table, console: Console) -> None:
    """Print what a reader of the numbers has to know, and which are missing."""
    for sentence in table.caveats:
        console.print(Text(sentence, style="dim"))
    for sentence in provenance.warnings(table):
        console.print(Text(sentence, style="yellow"))
    count = len(table.runs) - len(table.counted)
    if count:
        console.print(Text(f"{count} of {len(table.runs)} runs missing:", style="bold yellow"))
    for sentence in missing(table):
        console.print(Text(f"- {sentence}"))


def _show_plain(table: Table, console: Console) -> None:
    """One grid, the name of a section in front of its first line."""
    shown = table.design.columns
    grid = _grid(table, shown, console.width)
    for _, lines in table.sections:
        for position, line in enumerate(lines):
            first, *others = _texts(line, shown)
            grid.add_row(Text("") if position else first, *others)
        grid.add_section()
    console.print(grid)


def _show_titled(table: Table, console: Console) -> None:
    """One grid for each section below its name, all with the same widths and one header."""
    shown = table.design.columns[1:]
    console.print(_grid(table, shown, console.width))
    for name, lines in table.sections:
        console.print(Text(name, style="bold"))
        grid = _grid(table, shown, console.width, show_header=False)
        for line in lines:
            grid.add_row(*_texts(line, shown))
        console.print(grid)


def _grid(table: Table, shown: Sequence[Column], width: int, show_header: bool = True) -> Grid:
    roomy = width >= ROOMY
    grid = Grid(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, int(roomy), 0, 0), show_header=show_header
    )
    for index, column in enumerate(shown):
        header = "n" if column is columns.SEEDS and not roomy else column.header
        widest = max(map(len, [*header.split(), *(column.text(line) for line in table.lines)]))
        # the first column is the one that may give way when the console is narrow
        grid.add_column(
            header,
            justify="left" if column.word else "right",
            overflow="fold",
            width=None if index == 0 and not table.design.titled else widest,
        )
    return grid


def _texts(line: Line, shown: Sequence[Column]) -> list[Text]:
    return [Text(column.text(line), style=STYLES.get(column.mark(line), "")) for column in shown]
