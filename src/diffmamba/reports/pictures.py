"""Draws any `Chart` with matplotlib, as the bytes of a file: svg, png or pdf. The same chart gives the same bytes."""

import io
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter

from diffmamba.document import Chart, Panel, Series

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.edgecolor": "#888888",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "legend.frameon": False,
    "pdf.fonttype": 42,  # text in a PDF stays text
    "svg.hashsalt": "diffmamba",
}
UNDATED: dict[str, dict[str, Any]] = {
    "svg": {"Date": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
}
PNG_DPI = 200
LINES: dict[str, Any] = {"solid": "-", "dashed": (0, (4, 2)), "dotted": ":", "": "none"}
BAND, BAND_IN_LEGEND = 0.10, 0.15  # opacity
EMPTY = "no run yet"


def drawn(chart: Chart, kinds: Iterable[str]) -> dict[str, bytes]:
    """The chart in each of these kinds of file: `svg`, `png`, `pdf`."""
    rows, columns = len(chart.panels), max(map(len, chart.panels))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=chart.size, layout=ConstrainedLayoutEngine(h_pad=0.1))
        grid = figure.subplots(rows, columns, squeeze=False, width_ratios=chart.widths or None)
        for axes_row, panels in zip(grid, chart.panels, strict=True):
            for axes, panel in zip(axes_row, panels, strict=True):
                _draw_panel(axes, panel)
        _draw_legend(figure, chart)
        return {kind: _file(figure, kind) for kind in kinds}


def _draw_panel(axes: Axes, panel: Panel | None) -> None:
    if panel is None:
        axes.set_axis_off()
        return
    axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    if not panel.series:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, EMPTY, ha="center", va="center", color="#777777", transform=axes.transAxes)
        return
    axes.set(xscale=panel.x_scale, yscale=panel.y_scale)
    for series in panel.series:
        _draw_series(axes, series)
    for axis, value in panel.lines_at:
        (axes.axvline if axis == "x" else axes.axhline)(value, color="#888888", linewidth=1)
    if panel.x_engineering:
        axes.xaxis.set_major_formatter(EngFormatter())
    if panel.y_names:
        axes.set_yticks(range(len(panel.y_names)), panel.y_names)
        axes.set_ylim(len(panel.y_names) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
    if panel.x_range:
        axes.set_xlim(*panel.x_range)
    if panel.y_range:
        axes.set_ylim(*panel.y_range)


def _draw_series(axes: Axes, series: Series) -> None:
    if series.low:
        axes.fill_between(series.x, series.low, series.high, color=series.colour, alpha=BAND, linewidth=0)
    if series.error:
        axes.errorbar(series.x, series.y, xerr=series.error, fmt="none", ecolor=series.colour, capsize=3)
    axes.plot(series.x, series.y, **_stroke(series))


def _stroke(series: Series) -> dict[str, Any]:
    return {
        "color": series.colour,
        "linestyle": LINES[series.line],
        "linewidth": series.width,
        "marker": series.marker or None,
        "markersize": 3 if series.line else 6,
        "markerfacecolor": "white" if series.hollow else series.colour,
    }


def _draw_legend(figure: Figure, chart: Chart) -> None:
    """Above a single panel, right of a row of panels, below several rows."""
    handles = list(map(_handle, _legend(chart)))
    if not handles:
        return
    if len(chart.panels) > 1:
        figure.legend(handles=handles, handlelength=3.2, loc="outside lower center", ncols=4)
    elif len(chart.panels[0]) == 1:
        figure.legend(handles=handles, handlelength=3.2, loc="outside upper right", ncols=4)
    else:
        figure.legend(handles=handles, handlelength=3.2, loc="outside right center")


def _legend(chart: Chart) -> Sequence[Series]:
    """What the legend shows: what the chart says, or else every label once."""
    if chart.legend:
        return chart.legend
    series = [series for row in chart.panels for panel in row if panel is not None for series in panel.series]
    return [drawn for index, drawn in enumerate(series) if drawn.label not in {"", *(s.label for s in series[:index])}]


def _handle(series: Series) -> Line2D | Patch:
    """A line with its marker; a patch for what has neither."""
    if series.line or series.marker:
        return Line2D([], [], label=series.label, **_stroke(series))
    return Patch(color=series.colour, alpha=BAND_IN_LEGEND, label=series.label)


def _file(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=PNG_DPI, metadata=UNDATED[kind])
    return buffer.getvalue()
