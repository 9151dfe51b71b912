"""A table in the terminal, or as plain text in a file: whole at 80 columns, with room to breathe from 100 on."""

from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from diffmamba.reports import provenance
from diffmamba.reports.columns import HEADERS, WORDS, texts
from diffmamba.reports.table import DELTA_RULE, SIGN_RULE, Line, Table, missing

ROOMY = 100  # console width from which a second blank separates the columns
STYLES = {"✓": "green", "✗": "red", "~": "dim", "–": "dim"}


def show(table: Table, console: Console) -> None:
    """Print `table`, how to read it, and what is missing from it."""
    console.print(Text(f"{table.title}. Scale {table.scale}, {table.metric}.", style="bold"))
    console.print(_grid(table, roomy=console.width >= ROOMY))
    for sentence in (DELTA_RULE, SIGN_RULE, *table.caveats):
        console.print(Text(sentence, style="dim"))
    for sentence in provenance.warnings(table):
        console.print(Text(sentence, style="yellow"))
    _show_missing(table, console)


def _grid(table: Table, roomy: bool) -> Grid:
    grid = Grid(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, int(roomy), 0, 0))
    headers = HEADERS if roomy else tuple("n" if header == "seeds" else header for header in HEADERS)
    grid.add_column(headers[0], overflow="fold")  # the one column that may give way when the console is narrow
    for index, header in enumerate(headers[1:], start=1):
        width = max(map(len, [*header.split(), *(texts(line)[index] for line in table.lines)]))
        grid.add_column(header, justify="left" if index < WORDS else "right", width=width)
    for _, group in groupby(table.lines, key=lambda line: line.row.model):
        for position, line in enumerate(group):
            grid.add_row(*_cells(line, names_model=position == 0))
        grid.add_section()
    return grid


def _cells(line: Line, names_model: bool) -> list[Text]:
    cells = [Text(text) for text in texts(line)]
    if not names_model:
        cells[0] = Text("")
    if line.row.ppl_mean is None:
        cells[HEADERS.index("PPL ± std")].stylize("yellow")
    cells[-1].stylize(STYLES[line.sign])
    return cells


def _show_missing(table: Table, console: Console) -> None:
    count = len(table.runs) - len(table.counted)
    if count:
        console.print(Text(f"{count} of {len(table.runs)} runs missing:", style="bold yellow"))
    for sentence in missing(table):
        console.print(Text(f"- {sentence}"))
