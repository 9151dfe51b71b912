"""The audit in the terminal, whole at 100 columns."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from diffmamba.audit.document import Document, Finding, Grid, Section

UNBROKEN = 30  # columns of no more characters are never broken
STYLES = {"✓": "green", "✗": "red", "–": "dim"}


def show(document: Document, console: Console) -> None:
    """Prints the verdict, then everything it rests on."""
    console.print(Text(document.title, style="bold"))
    for sentence in document.verdict:
        console.print(Text(f"• {sentence}"))
    for section in document.sections:
        _show_section(section, console)


def _show_section(section: Section, console: Console) -> None:
    console.print()
    console.print(Text(section.title, style="bold cyan"))
    for sentence in section.sentences:
        console.print(Text(sentence, style="dim"))
    for grid in section.grids:
        _show_grid(grid, console)
    for finding in section.findings:
        _show_finding(finding, console)


def _show_finding(finding: Finding, console: Console) -> None:
    console.print()
    console.print(Text(finding.title, style="bold"))
    console.print(Text(finding.printed, style="dim"))
    console.print(Text(finding.computed))
    for grid in finding.grids:
        _show_grid(grid, console)


def _show_grid(grid: Grid, console: Console) -> None:
    if grid.title:
        console.print(Text(grid.title, style="bold"))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for index, header in enumerate(grid.headers):
        short = max(len(row[index]) for row in grid.rows) <= UNBROKEN
        table.add_column(header, justify="left" if index < grid.words else "right", overflow="fold", no_wrap=short)
    for row in grid.rows:
        table.add_row(*(Text(text, style=STYLES.get(text, "")) for text in row))
    console.print(table)
    if grid.caption:
        console.print(Text(grid.caption, style="dim"))
