"""Draws any `diffmamba.document.Document`: as one HTML page, as Markdown, and in the terminal.

The page needs nothing but itself: style and pictures are part of it, so it can be mailed, attached to an issue or
opened without a network. In its site (see `site`) a script puts charts in the place of the pictures. Whatever a
document says is escaped: an error message of a run may hold anything.
"""

import base64
import re
from collections.abc import Iterable
from dataclasses import replace

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from diffmamba.document import Block, Bullets, Document, Entry, Grid, GridColumn, Paragraph, RowGroup, Section
from diffmamba.reports import interactive, pictures

ROOMY = 100  # columns of a terminal from which a second blank separates the columns of a table, if there is room
LONG = 30  # characters from which a text in a table may take several lines
TONES = {"note": "dim", "warning": "yellow", "strong": "bold"}
MARKS = {"agrees": "green", "disagrees": "red", "undecided": "dim", "gap": "yellow"}


def html(document: Document) -> str:
    """The document as a page."""
    return TEMPLATES.get_template("page.html").render(document=document)


def markdown(document: Document) -> str:
    """The document as GitHub Markdown, without its pictures, to paste into an issue."""
    return TEMPLATES.get_template("page.md").render(document=document).strip() + "\n"


def shared_word(group: RowGroup) -> str:
    """The first text of the rows of a group if all share it and there are several, so that it is shown once; or ""."""
    words = {row[0].text for row in group.rows}
    return group.rows[0][0].text if len(words) == 1 and len(group.rows) > 1 else ""


def folds(grid: Grid) -> bool:
    """Whether a narrow screen has the words of a row in one column: so where columns can be spared."""
    return any(column.spare for column in grid.columns) and grid.columns[0].word


def words(grid: Grid, row: tuple[Entry, ...]) -> list[str]:
    """What the words of a row say beside the first, as a narrow screen has them below the first."""
    named = list(zip(grid.columns, row, strict=True))[1:]
    return [f"{column.header}: {entry.text}" for column, entry in named if column.word]


def _escaped(text: str) -> str:
    """Text that Markdown takes as it is: what runs report may hold pipes, tags and emphasis."""
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", text).replace("\n", " ")


def _in_script(json: str) -> str:
    """JSON that no browser takes for the end of the script that it stands in."""
    return json.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


TEMPLATES = Environment(
    loader=PackageLoader("diffmamba.reports"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters |= {"escaped": _escaped, "shared": shared_word, "folds": folds, "words": words}
TEMPLATES.filters["breakable"] = lambda name: Markup(re.sub(r"(?<=[._])", "<wbr>", escape(name)))
TEMPLATES.filters["kind"] = lambda block: type(block).__name__.lower()
TEMPLATES.filters["base64"] = lambda chart: base64.b64encode(pictures.drawn(chart, "svg")).decode("ascii")
TEMPLATES.filters["interactive"] = lambda chart: Markup(_in_script(interactive.as_json(chart)))
TEMPLATES.globals["LONG"] = LONG


def show(document: Document, console: Console) -> None:
    """Prints the document without its pictures and what is folded."""
    console.print(Text(document.title, style="bold"))
    _show_blocks(document.blocks, console, "bold cyan")


def _show_blocks(blocks: Iterable[Block], console: Console, heading: str) -> None:
    for block in blocks:
        match block:
            case Paragraph(text, tone):
                console.print(Text(text, style=TONES.get(tone, "")))
            case Bullets(items, tone):
                for item in items:
                    console.print(Text(f"- {item}", style=TONES.get(tone, "")))
            case Grid():
                _show_grid(block, console)
            case Section(title, inner, terminal=True):
                console.print()
                console.print(Text(title, style=heading))
                _show_blocks(inner, console, "bold")


def _show_grid(grid: Grid, console: Console) -> None:
    """One table, or with titles one for each group below its title, all with the same widths and one header."""
    grid = _fitting(grid, console.width)
    if grid.title:
        console.print(Text(grid.title, style="bold"))
    titled = any(group.title for group in grid.groups)
    table = _table(grid, console.width, titled)
    for group in grid.groups:
        if titled:
            console.print(table)
            console.print(Text(group.title, style="bold"))
            table = _table(grid, console.width, titled, show_header=False)
        for position, row in enumerate(group.rows):
            texts = [Text(entry.text, style=MARKS.get(entry.mark, "")) for entry in row]
            table.add_row("" if position and shared_word(group) else texts[0], *texts[1:])
        table.add_section()
    console.print(table)
    if grid.caption:
        console.print(Text(grid.caption, style="dim"))


def _fitting(grid: Grid, width: int) -> Grid:
    """The grid without those of its spare columns, from the right, that have no room."""
    widths = _widths(grid, short=True)
    kept = list(range(len(widths)))
    for index in reversed(range(len(widths))):
        if grid.columns[index].spare and sum(widths[place] + 1 for place in kept) - 1 > width:
            kept.remove(index)
    groups = (replace(g, rows=tuple(tuple(row[place] for place in kept) for row in g.rows)) for g in grid.groups)
    return replace(grid, columns=tuple(grid.columns[place] for place in kept), groups=tuple(groups))


def _widths(grid: Grid, short: bool) -> list[int]:
    """The characters that each column takes: its longest text, or the longest word of its header."""
    columns = [[*_header(column, short).split()] for column in grid.columns]
    for row in (row for group in grid.groups for row in group.rows):
        for texts, entry in zip(columns, row, strict=True):
            texts += entry.text.split("\n")
    return [max(map(len, texts), default=0) for texts in columns]


def _header(column: GridColumn, short: bool) -> str:
    return column.short if column.short and short else column.header


def _table(grid: Grid, width: int, fixed: bool, show_header: bool = True) -> Table:
    """Columns as wide as their texts; the first gives way in a narrow terminal, and long texts take several lines."""
    roomy = width >= ROOMY and sum(wide + 2 for wide in _widths(grid, short=False)) - 2 <= width
    padding = (0, int(roomy), 0, 0)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=padding, show_header=show_header)
    for index, (column, widest) in enumerate(zip(grid.columns, _widths(grid, short=not roomy), strict=True)):
        gives_way = widest > LONG or (index == 0 and not fixed)
        side, wide = "left" if column.word else "right", None if gives_way else widest
        table.add_column(_header(column, not roomy), justify=side, overflow="fold", width=wide)  # type: ignore[arg-type]
    return table
