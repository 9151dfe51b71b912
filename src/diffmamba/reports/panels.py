"""The panels of the paper's figure 2: test PPL while training, a column for each corpus, a row for each depth.

Each panel has an axis of its own, since words, characters and bytes do not compare, and shows the heights of the later
part of training: the steep beginning would press the curves onto each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from diffmamba.reports.columns import value
from diffmamba.reports.drawing import (
    STYLE,
    Curve,
    curve,
    draw,
    hue,
    lasted_an_epoch,
    rendered,
    show_late_heights,
    x_label,
)
from diffmamba.reports.setting import setting
from diffmamba.reports.table import Line, Picture, Table

LATE = 0.65  # the end of training, as a share, whose heights a panel shows
CAPTION = (
    "Test PPL while training, mean over the seeds that count, the band from the lowest to the highest seed. Each "
    f"panel shows the heights of the last {LATE:.0%} of training, where the curves lie close together; the rest "
    "lies above it. A panel is named after the paper's; what was trained for it instead stands in brackets."
)


@dataclass(frozen=True)
class Panel:
    """The lines that share a panel, one for each model; `curves` are those with runs that count."""

    title: str
    lines: list[Line]
    curves: list[Curve]
    by_epoch: bool


def panels(table: Table) -> dict[tuple[Any, Any], Panel]:
    """The panels of a table by row and column: the depth, and the corpus, each as published and as trained."""
    found = {}
    for group, lines in table.groups.items():
        key = setting(lines[0])
        place = (key.layers, key.trained_layers), (key.data, key.trained_on)
        curves = [curve(line) for line in lines if line.counted]
        found[place] = Panel(group, lines, curves, lasted_an_epoch(lines))
    return found


def picture(table: Table) -> Picture:
    """The figure for a page."""
    return Picture(
        "While training", drawn(table, ["svg"])["svg"], f"Test PPL against training. {_ends(table)}", CAPTION
    )


def drawn(table: Table, kinds: Sequence[str]) -> dict[str, bytes]:
    """The figure in each of these kinds of file: `svg`, `png`, `pdf`."""
    found = panels(table)
    rows, columns = (list(dict.fromkeys(axis)) for axis in zip(*found, strict=True))
    with mpl.rc_context(STYLE):
        figure = Figure(
            figsize=(0.4 + 3.2 * len(columns), 0.7 + 2.6 * len(rows)), layout=ConstrainedLayoutEngine(h_pad=0.1)
        )
        grid = figure.subplots(len(rows), len(columns), squeeze=False)
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                _draw_panel(grid[i, j], table, found.get((row, column)))
            grid[i, 0].set_ylabel("test PPL")
        figure.legend(handles=_legend(table), loc="outside lower center", ncols=4)
        return {kind: rendered(figure, kind) for kind in kinds}


def _draw_panel(axes: Axes, table: Table, panel: Panel | None) -> None:
    axes.set_title(panel.title.replace(" (", "\n(") if panel else "", fontsize=9)
    if not panel or not panel.curves:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "no run yet", ha="center", va="center", color="#777777", transform=axes.transAxes)
        return
    draw(axes, panel.curves, [_stroke(table, curve.line) for curve in panel.curves], panel.by_epoch)
    _draw_published(axes, table, panel)
    axes.set_xlabel(x_label(panel.by_epoch))
    axes.set_xlim(left=0)
    show_late_heights(axes, panel.curves, panel.by_epoch, LATE)


def _draw_published(axes: Axes, table: Table, panel: Panel) -> None:
    """The paper's final PPL, only where the runs are the paper's: elsewhere it is a number about something else."""
    for line in panel.lines if table.scale == "paper" else ():
        if setting(line).is_as_published and line.row.paper_ppl is not None:
            axes.axhline(line.row.paper_ppl, color=hue(table, line.cell.key.model), linestyle=":", linewidth=1.2)


def _stroke(table: Table, line: Line) -> dict[str, Any]:
    return {"color": hue(table, line.cell.key.model), "linewidth": 1.4, "marker": "o", "markersize": 2.5}


def _legend(table: Table) -> list[Line2D | Patch]:
    strokes = {line.cell.key.model: _stroke(table, line) for line in table.lines}
    handles: list[Line2D | Patch] = [Line2D([], [], label=model, **stroke) for model, stroke in strokes.items()]
    handles.append(Patch(color="#4d4d4d", alpha=0.15, linewidth=0, label="lowest to highest seed"))
    if table.scale == "paper":
        handles.append(Line2D([], [], color="#4d4d4d", linestyle=":", label="published, at the end"))
    return handles


def _ends(table: Table) -> str:
    ends = [f"{line.cell.label} {value(line.row.ppl_mean)}" for line in table.lines if line.row.ppl_mean is not None]
    return f"At the end: {'; '.join(ends)}." if ends else "No run yet."
