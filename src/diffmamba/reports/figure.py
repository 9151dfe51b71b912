"""The two pictures of a table: test curves in the manner of the paper's figure 2, and Δ here against Δ published.

Both draw only the runs that the table counts, and return SVG: sharp at any size and small enough to inline in a page.
Hue tells the model, the dash tells the outer norm, the marker tells the form of λ; the hues are those of Okabe and Ito,
which colour-blind readers can tell apart.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from diffmamba.reports.table import BASELINE, Line, Table

HUES = {"mamba": "#4d4d4d", "diff_s6": "#d55e00", "diff_mamba": "#0072b2"}
OTHER_HUES = ("#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = {None: "o", "scalar": "o", "reparam": "s", "channel": "^", "exp": "D", "fixed": "v"}
STYLE: dict[Any, Any] = {
    "font.size": 9,
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
    "svg.hashsalt": "diffmamba",  # the same records give the same bytes
}


@dataclass(frozen=True)
class Curve:
    """The test curve of one cell over the evaluations that its counted runs share."""

    line: Line
    x: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]


def curves(table: Table) -> bytes:
    """Test PPL while training, mean over seeds with a band from lowest to highest; right, the last half enlarged."""
    by_epoch = max((point.epoch for run in table.counted for point in run.curve), default=0.0) >= 1
    drawn = [_curve(line, by_epoch) for line in table.lines if line.counted]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 3.9), layout="constrained")
        whole, late = figure.subplots(1, 2, width_ratios=(1, 1.25))
        for axes in (whole, late):
            _draw_curves(axes, table, drawn, by_epoch)
        whole.set(ylabel="test PPL", title="all of training")
        late.set_title("last half")
        _enlarge(late, drawn)
        strokes = [Line2D([], [], label=curve.line.cell.label, **_stroke(table, curve.line)) for curve in drawn]
        figure.legend(handles=strokes, loc="outside right center", handlelength=3.2)
        return _svg(figure)


def deltas(table: Table) -> bytes:
    """Δ to plain Mamba per cell: filled with the spread over seeds from here, hollow from the paper."""
    others = [line for line in table.lines if (line.cell.model, line.cell.outer_norm) != BASELINE]
    drawn = [line for line in others if line.row.delta is not None or line.row.paper_delta is not None]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 1.2 + 0.28 * len(drawn)), layout="constrained")
        axes = figure.subplots()
        for height, line in enumerate(drawn):
            _draw_delta(axes, height, line, _hue(table, line.cell.model))
        axes.axvline(0, color="#888888", linewidth=1)
        axes.set_yticks(range(len(drawn)), [line.cell.label for line in drawn])
        axes.set_ylim(len(drawn) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("Δ PPL to plain mamba   (left is better)")
        figure.legend(handles=_delta_legend(), loc="outside upper right", ncols=2)
        return _svg(figure)


def _curve(line: Line, by_epoch: bool) -> Curve:
    runs = [{point.step: point for point in run.curve} for run in line.counted]
    seeds = [[run[step] for run in runs] for step in sorted(set.intersection(*map(set, runs)))]
    ppl = [[point.ppl for point in points] for points in seeds]
    return Curve(
        line,
        x=[points[0].epoch if by_epoch else points[0].tokens for points in seeds],
        mean=[fmean(values) for values in ppl],
        low=[min(values) for values in ppl],
        high=[max(values) for values in ppl],
    )


def _draw_curves(axes: Axes, table: Table, drawn: Sequence[Curve], by_epoch: bool) -> None:
    for curve in drawn:
        stroke = _stroke(table, curve.line)
        axes.fill_between(curve.x, curve.low, curve.high, color=stroke["color"], alpha=0.10, linewidth=0)
        axes.plot(curve.x, curve.mean, **stroke)
    axes.set_xlabel("training epochs" if by_epoch else "symbols seen")
    if not by_epoch:
        axes.xaxis.set_major_formatter(EngFormatter())


def _enlarge(axes: Axes, drawn: Sequence[Curve]) -> None:
    """Show the second half of the x axis, and only the y range that the means have there."""
    points = [point for curve in drawn for point in zip(curve.x, curve.mean, strict=True)]
    end = max(x for x, _ in points)
    late = [y for x, y in points if x >= end / 2]
    margin = 0.08 * (max(late) - min(late)) or 0.01
    axes.set_xlim(0.49 * end, 1.01 * end)
    axes.set_ylim(min(late) - margin, max(late) + margin)


def _draw_delta(axes: Axes, height: int, line: Line, hue: str) -> None:
    """Ours a little above the row's height and the paper's a little below, so that equal ones stay visible."""
    if line.row.delta is not None:
        axes.errorbar(line.row.delta, height - 0.12, xerr=line.spread, fmt="o", color=hue, markersize=6, capsize=3)
    if line.row.paper_delta is not None:
        axes.plot(line.row.paper_delta, height + 0.12, "o", markersize=7, markerfacecolor="white", markeredgecolor=hue)


def _delta_legend() -> list[Line2D]:
    grey: dict[str, Any] = {"color": "#4d4d4d", "linestyle": "none", "marker": "o"}
    return [
        Line2D([], [], label="here, ± s over seeds", **grey),
        Line2D([], [], label="published", markerfacecolor="white", **grey),
    ]


def _stroke(table: Table, line: Line) -> dict[str, Any]:
    hue = _hue(table, line.cell.model)
    return {
        "color": hue,
        "linewidth": 1.4,
        "linestyle": "-" if line.cell.outer_norm else (0, (4, 2)),
        "marker": MARKERS.get(line.cell.lambda_form, "P"),
        "markersize": 4,
        "markerfacecolor": "white" if line.cell.lambda_form == "reparam" else hue,
    }


def _hue(table: Table, model: str) -> str:
    others = [name for name in dict.fromkeys(row.model for row in table.rows) if name not in HUES]
    return HUES[model] if model in HUES else OTHER_HUES[others.index(model) % len(OTHER_HUES)]


def _svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return buffer.getvalue()
