"""Figure 2 of the paper: the test curves of table 1's runs, as pictures, as points and as a page.

`figure2.csv` holds every point that is drawn; `index.html` shows the figure above the table it belongs to.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from diffmamba.reports.columns import value
from diffmamba.reports.console import show_notes
from diffmamba.reports.files import put
from diffmamba.reports.page import page
from diffmamba.reports.panels import Panel, drawn, panels, picture
from diffmamba.reports.table import Table, View

NAME = "figure2"
TITLE = "Figure 2: test PPL of Mamba and Diff-Mamba while training"
SPREAD_RULE = (
    "s: standard deviation of the difference taken seed by seed; a difference that does not exceed it decides nothing."
)
KINDS = ("svg", "png", "pdf")
POINT = {
    "step": "step",
    "epoch": "epoch",
    "tokens": "symbols",
    "mean": "ppl_mean",
    "low": "ppl_low",
    "high": "ppl_high",
}
"""The columns of `figure2.csv` after those of the cell and its seeds, by the names that a point has for them."""


def write(table: Table, directory: Path) -> list[Path]:
    """Write the figure, its points and its page into `directory`; returns their paths, `index.html` last."""
    pictures = drawn(table, KINDS)
    contents = {f"{NAME}.{kind}": pictures[kind] for kind in KINDS}
    contents[f"{NAME}.csv"] = points(table).to_csv(index=False).encode()
    contents["index.html"] = page(table, TITLE, above=[picture(table)]).encode()
    return put(contents, directory)


def points(table: Table) -> pd.DataFrame:
    """What is drawn: one row for each point of each curve."""
    rows: list[dict[str, Any]] = []
    for panel in panels(table).values():
        for curve in panel.curves:
            cell = curve.line.cell.key.fields() | {"seeds": " ".join(str(run.seed) for run in curve.line.counted)}
            rows += [cell | {POINT[name]: number for name, number in asdict(point).items()} for point in curve.points]
    return pd.DataFrame(rows, columns=[*table.lines[0].cell.key.fields(), "seeds", *POINT.values()])


def show(table: Table, console: Console) -> None:
    """Print where the curves of each panel end, and which is lowest there."""
    console.print(Text(f"{TITLE}. Scale {table.scale}, {table.metric} at the end.", style="bold"))
    found = list(panels(table).values())
    models = list(dict.fromkeys(line.cell.key.model for line in table.lines))
    grid = Grid(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    grid.add_column("panel", overflow="fold")
    for model in models:
        grid.add_column(model, justify="right")
    grid.add_column("lowest")
    grid.add_column("s", justify="right")
    for panel in found:
        ends = {line.cell.key.model: line for line in panel.lines}
        ppl = (value(ends[model].row.ppl_mean) if model in ends else "–" for model in models)
        grid.add_row(panel.title.replace(" (", "\n("), *ppl, *_lowest(panel))
    console.print(grid)
    console.print(Text(SPREAD_RULE, style="dim"))
    show_notes(table, console)


def _lowest(panel: Panel) -> tuple[str, str]:
    """The model with the lowest PPL and by how much it differs from Mamba's (or Mamba's from the next); s."""
    ends = [line for line in panel.lines if line.row.ppl_mean is not None]
    if not ends:
        return "no run yet", "–"
    first, *others = sorted(ends, key=lambda line: line.row.ppl_mean or 0.0)
    measured = others[0] if first.cell.key.is_baseline and others else first
    if not others or measured.row.delta is None:
        return "–", "–"
    return f"{first.cell.key.model} by {value(abs(measured.row.delta))}", value(measured.spread)


VIEW = View(NAME, "table1", show, write)
