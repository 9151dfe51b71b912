"""Draws any `Chart` with matplotlib, as the bytes of a file: svg, png or pdf. The same chart gives the same bytes."""

import io
import textwrap
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import withStroke
from matplotlib.ticker import EngFormatter, MaxNLocator, NullFormatter

from diffmamba.document import Chart, Panel, Series

STYLE = Path(__file__).parent / "templates" / "pictures.mplstyle"
DATED = {"svg": ["Date"], "png": ["Software"], "pdf": ["CreationDate", "Producer", "Creator"]}  # left out of the files
LETTERS = 13  # of a legend or a title in an inch
BESIDE = 7  # letters that the numbers beside a panel take
INK = "#1c1e21"  # of the interval of a bar
HANDLE = 8  # letters that the line beside a label takes
LINES: dict[str, Any] = {"solid": "-", "dashed": (0, (4, 2)), "dotted": ":", "": "none"}


@lru_cache(maxsize=32)  # a figure is drawn for its file and for its page
def drawn(chart: Chart, kind: str) -> bytes:
    """The chart as a file of this kind: `svg`, `png` or `pdf`."""
    with mpl.rc_context(fname=STYLE):
        figure = Figure(figsize=chart.size, layout=ConstrainedLayoutEngine(h_pad=0.1))
        rows = chart.panels or ((Panel("", ()),),)
        grid = figure.subplots(len(rows), max(map(len, rows)), squeeze=False)
        for axes_row, panels in zip(grid, rows, strict=True):
            for axes, panel in zip_longest(axes_row, panels):
                draw(axes, panel) if panel else axes.set_axis_off()
        labelled: dict[str, Any] = {}
        for axes in figure.axes:
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                labelled.setdefault(label, handle)
        if labelled:
            widest = max(map(len, labelled)) + HANDLE
            columns = max(1, min(4, int(chart.size[0] * LETTERS / widest)))
            figure.legend(labelled.values(), labelled.keys(), loc="outside lower center", ncols=columns)
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, metadata=dict.fromkeys(DATED[kind]))
    return buffer.getvalue()


def draw(axes: Axes, panel: Panel) -> None:
    """The panel on these axes."""
    columns = axes.get_gridspec().ncols  # type: ignore[union-attr]
    letters = int(axes.get_figure(root=True).get_size_inches()[0] / columns * LETTERS) - BESIDE  # type: ignore[union-attr]
    title, x_label = (_plain(_wrapped(told, letters)) for told in (panel.title, panel.x_label))
    axes.set(title=title, xlabel=x_label, ylabel=_plain(panel.y_label))
    if panel.shades:
        _draw_map(axes, panel)
        return
    if not panel.series:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "no run yet", ha="center", va="center", color="#777777", transform=axes.transAxes)
        return
    axes.set(xscale=panel.x_scale, yscale=panel.y_scale)
    for series in panel.series:
        _draw_series(axes, series)
    ranges = {"xlim": panel.x_range, "ylim": panel.y_range}
    # to set None would freeze the limits of a linear axis, which begin below 0
    axes.set(**{name: limits for name, limits in ranges.items() if limits is not None})
    for axis, scale in ((axes.xaxis, panel.x_scale), (axes.yaxis, panel.y_scale)):
        if scale == "log":  # numbers at the powers of ten alone
            axis.set_minor_formatter(NullFormatter())
    if panel.x_ticks:
        axes.set_xticks(panel.x_ticks, [f"{at:.10g}" for at in panel.x_ticks])
        axes.minorticks_off()
    if panel.x_at is not None:
        axes.axvline(panel.x_at, color="#888888", linewidth=1)
    if panel.x_engineering:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_major_locator(MaxNLocator(5))
    if panel.x_names:
        axes.set_xticks(range(len(panel.x_names)), map(_plain, panel.x_names))
        axes.set_xlim(-0.5, len(panel.x_names) - 0.5)
        axes.grid(axis="x", visible=False)
    if panel.y_names:
        axes.set_yticks(range(len(panel.y_names)), map(_plain, panel.y_names))
        axes.set_ylim(len(panel.y_names) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)


def _draw_map(axes: Axes, panel: Panel) -> None:
    """Shades by the cube root of numbers from 0 to 1, so that small ones can be seen beside large ones."""
    axes.imshow(panel.shades, cmap="Greys", norm=PowerNorm(1 / 3, 0, 1), interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)


def _draw_series(axes: Axes, series: Series) -> None:
    if series.bar:
        face = "none" if series.hollow else series.colour
        look: dict[str, Any] = {"facecolor": face, "edgecolor": series.colour, "linewidth": 0.8}
        axes.bar(series.x, series.y, series.bar, label=_plain(series.label), **look)
        if series.low:
            lines = axes.vlines(series.x, series.low, series.high, color=INK, linewidth=1.2)
            lines.set_path_effects([withStroke(linewidth=3, foreground="white")])
        return
    if series.low:
        axes.fill_between(series.x, series.low, series.high, color=series.colour, alpha=0.1, linewidth=0)
    if series.error:
        axes.errorbar(series.x, series.y, xerr=series.error, fmt="none", ecolor=series.colour, capsize=3)
    axes.plot(
        series.x,
        series.y,
        label=_plain(series.label),
        color=series.colour,
        linestyle=LINES[series.line],
        linewidth=series.width,
        marker=series.marker or None,
        markersize=3 if series.line else 6,
        markerfacecolor="white" if series.hollow else series.colour,
    )


def _wrapped(told: str, letters: int) -> str:
    """A text in lines of so many letters, so that no end of it is cut off."""
    return "\n".join(textwrap.fill(line, letters, break_on_hyphens=False) for line in told.splitlines())


def _plain(told: str) -> str:
    """A text that is drawn as it is: matplotlib reads what stands between dollars, and leaves out `_` in legends."""
    return " " * told.startswith("_") + told.replace("$", r"\$")
