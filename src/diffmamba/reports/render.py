"""Draws any `diffmamba.document.Document`: in the terminal, as Markdown, as JSON and as one HTML page.

The page needs nothing but itself: style and pictures are part of it, so it can be mailed, attached to an issue or
opened without a network. Whatever a document says is escaped: an error message of a run may hold anything.
"""

import base64
import json as json_
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from diffmamba import atomic
from diffmamba.document import Block, Bullets, Chart, Document, Entry, Facts, Folded, Grid, Paragraph, Rows, Section
from diffmamba.reports import pictures

ROOMY = 100  # columns of a terminal from which a second blank separates the columns of a table
LONG = 30  # characters from which a text in a table may take several lines
NARROW = 7  # columns up to which a table on a page is as wide as its texts, not as wide as the page
TONES = {"note": "dim", "warning": "yellow", "strong": "bold"}
MARKS = {"agrees": "green", "disagrees": "red", "undecided": "dim", "gap": "yellow"}


def put(contents: Mapping[str, bytes | str], directory: Path) -> list[Path]:
    """Writes these files into `directory`, made if need be; returns their paths in order."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        atomic.write(directory / name, content)
    return [directory / name for name in contents]


def json(document: Document) -> str:
    """What a program wants of the document. Raises ValueError for NaN and infinity, which JSON does not have."""
    return json_.dumps(document.data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def html(document: Document) -> str:
    """The document as a page."""
    return _page().render(document=document)


@cache
def _page() -> Template:
    loader = PackageLoader("diffmamba.reports")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["kind"] = lambda block: type(block).__name__.lower()
    environment.filters["svg"] = _svg
    environment.filters["shared"] = shared_word
    environment.globals.update(LONG=LONG, NARROW=NARROW)
    environment.globals["css"] = Markup(loader.get_source(environment, "page.css")[0])
    return environment.get_template("page.html")


def _svg(chart: Chart) -> str:
    """The picture of a chart as the address of an image that holds it."""
    picture = base64.b64encode(pictures.drawn(chart, ["svg"])["svg"]).decode("ascii")
    return f"data:image/svg+xml;base64,{picture}"


def shared_word(group: Rows) -> str:
    """The first text of the rows of a group if all share it and there are several, so that it is shown once; or ""."""
    words = {row[0].text for row in group.rows}
    return group.rows[0][0].text if len(words) == 1 and len(group.rows) > 1 else ""


def show(document: Document, console: Console) -> None:
    """Prints the document without its pictures and what is folded."""
    console.print(Text(document.title, style="bold"))
    _show_blocks(document.blocks, console, depth=1)


def _show_blocks(blocks: Iterable[Block], console: Console, depth: int) -> None:
    for block in blocks:
        match block:
            case Paragraph(text, tone):
                console.print(Text(text, style=TONES.get(tone, "")))
            case Bullets(items, tone):
                for item in items:
                    console.print(Text(f"- {item}", style=TONES.get(tone, "")))
            case Grid():
                _show_grid(block, console)
            case Facts(entries):
                for name, text in entries.items():
                    console.print(Text.assemble((f"{name}: ", "dim"), text))
            case Section(title, inner, terminal=True):
                console.print()
                console.print(Text(title, style="bold cyan" if depth == 1 else "bold"))
                _show_blocks(inner, console, depth + 1)


def _show_grid(grid: Grid, console: Console) -> None:
    """One table, or with titles one for each group below its title, all with the same widths and one header."""
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
            first = Entry("") if position and shared_word(group) else row[0]
            table.add_row(*(Text(entry.text, style=MARKS.get(entry.mark, "")) for entry in (first, *row[1:])))
        table.add_section()
    console.print(table)
    if grid.caption:
        console.print(Text(grid.caption, style="dim"))


def _table(grid: Grid, width: int, fixed: bool, show_header: bool = True) -> Table:
    """Columns as wide as their texts; the first gives way in a narrow terminal, and long texts take several lines."""
    roomy = width >= ROOMY
    padding = (0, int(roomy), 0, 0)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=padding, show_header=show_header)
    for index, column in enumerate(grid.columns):
        header = column.short if column.short and not roomy else column.header
        texts = [line for group in grid.groups for row in group.rows for line in row[index].text.split("\n")]
        widest = max(map(len, [*header.split(), *texts]))
        gives_way = widest > LONG or (index == 0 and not fixed)
        side = "left" if column.word else "right"
        table.add_column(header, justify=side, overflow="fold", width=None if gives_way else widest)  # type: ignore[arg-type]
    return table


def markdown(document: Document) -> str:
    """The document as GitHub Markdown, without its pictures, to paste into an issue."""
    return "\n\n".join([f"# {_escaped(document.title)}", *_marked_down(document.blocks, depth=2)]) + "\n"


def _marked_down(blocks: Iterable[Block], depth: int) -> Iterable[str]:
    for block in blocks:
        match block:
            case Paragraph(text):
                yield _escaped(text)
            case Bullets(items):
                yield _bullets(items)
            case Grid():
                yield _marked_down_grid(block)
            case Facts(entries):
                yield _bullets([f"{name}: {text}" for name, text in entries.items()])
            case Section(title, inner):
                yield f"{'#' * depth} {_escaped(title)}"
                yield from _marked_down(inner, depth + 1)
            case Folded(title, inner):
                yield f"<details><summary>{_escaped(title)}</summary>"
                yield from _marked_down(inner, depth)
                yield "</details>"


def _marked_down_grid(grid: Grid) -> str:
    rows: list[Sequence[str]] = [
        [_escaped(column.header) for column in grid.columns],
        ["---" if column.word else "---:" for column in grid.columns],
    ]
    for group in grid.groups:
        if group.title:
            rows.append([f"**{_escaped(group.title)}**", *[""] * (len(grid.columns) - 1)])
        rows += [[_escaped(entry.text) for entry in row] for row in group.rows]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return "\n\n".join(filter(None, [_escaped(grid.title), table, _escaped(grid.caption)]))


def _bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- {_escaped(item)}" for item in items)


def _escaped(text: str) -> str:
    """Text that Markdown takes as it is: what runs report may hold pipes, tags and emphasis."""
    for character in "\\`*_|<>[]":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split("\n"))
