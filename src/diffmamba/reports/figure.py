"""The two pictures of a table: test curves in the manner of the paper's figure 2, and Δ here against Δ published.

Both draw only the runs that the table counts, and are SVG: sharp at any size and small enough to inline in a page.
"""

from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from diffmamba.paper import published
from diffmamba.reports.drawing import STYLE, curve, draw, hue, lasted_an_epoch, rendered, show_late_heights, x_label
from diffmamba.reports.table import Line, Picture, Table

CURVES_CAPTION = (
    "Test PPL while training, mean over the seeds that count, the band from the lowest to the highest seed. "
    "{strokes} The right panel enlarges the second half, where the lines lie close together."
)
DELTAS_CAPTION = (
    "{difference} to {baseline}: filled dots are the runs of this table, with s to either side where at least two "
    "seeds are shared with mamba; hollow dots are the paper's."
)


def curves(table: Table, stroke: Callable[[Line], dict[str, Any]], strokes_rule: str) -> Picture:
    """Test PPL while training, every line in one panel; right, the last half enlarged.

    `stroke` is how a line is drawn besides its model's hue, and `strokes_rule` says so to the reader.
    """
    by_epoch = lasted_an_epoch(table.lines)
    drawn = [curve(line) for line in table.lines if line.counted]
    strokes = [_stroke(table, curve.line, stroke) for curve in drawn]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 3.9), layout="constrained")
        whole, late = figure.subplots(1, 2, width_ratios=(1, 1.25))
        for axes in (whole, late):
            draw(axes, drawn, strokes, by_epoch)
            axes.set_xlabel(x_label(by_epoch))
        whole.set(ylabel="test PPL", title="all of training")
        late.set_title("last half")
        show_late_heights(late, drawn, by_epoch, share=0.5)
        end = max(drawn_x for curve in drawn for drawn_x in curve.x(by_epoch))
        late.set_xlim(0.49 * end, 1.01 * end)
        labels = [
            Line2D([], [], label=curve.line.cell.label, **stroke) for curve, stroke in zip(drawn, strokes, strict=True)
        ]
        figure.legend(handles=labels, loc="outside right center", handlelength=3.2)
        svg = rendered(figure, "svg")
    return Picture(
        "While training", svg, f"Test PPL against training. {_best(table)}", CURVES_CAPTION.format(strokes=strokes_rule)
    )


def deltas(table: Table, relative: bool = False) -> Picture:
    """Δ per cell: filled with the spread over seeds from here, hollow from the paper.

    `relative` draws Δ in percent of the baseline's PPL, for tables whose rows are measured on different symbols.
    """
    others = [line for line in table.lines if not line.cell.key.is_baseline]
    drawn = [line for line in others if line.row.delta is not None or line.row.paper_delta is not None]
    baseline, difference = table.design.key.baseline, "Δ in percent of PPL" if relative else "Δ"
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 1.2 + 0.28 * len(drawn)), layout="constrained")
        axes = figure.subplots()
        for height, line in enumerate(drawn):
            _draw_delta(axes, height, line, hue(table, line.cell.key.model), relative)
        axes.axvline(0, color="#888888", linewidth=1)
        axes.set_yticks(range(len(drawn)), [line.cell.label for line in drawn])
        axes.set_ylim(len(drawn) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(
            f"Δ PPL to {baseline}, %\n(left is better)" if relative else f"Δ PPL to {baseline}   (left is better)"
        )
        figure.legend(handles=_delta_legend(), loc="outside upper right", ncols=2)
        svg = rendered(figure, "svg")
    return Picture(
        heading="Against the paper",
        svg=svg,
        alt=f"{difference} to {baseline} per variant. {_signs(table)}",
        caption=DELTAS_CAPTION.format(difference=difference, baseline=baseline),
        broad=False,
    )


def _stroke(table: Table, line: Line, stroke: Callable[[Line], dict[str, Any]]) -> dict[str, Any]:
    color = hue(table, line.cell.key.model)
    return {"color": color, "linewidth": 1.4, "markersize": 4, "markerfacecolor": color} | stroke(line)


def _draw_delta(axes: Axes, height: int, line: Line, hue: str, relative: bool) -> None:
    """Ours a little above the row's height and the paper's a little below, so that equal ones stay visible."""
    row = line.row
    if row.delta is not None and row.ppl_mean is not None:
        unit = (row.ppl_mean - row.delta) / 100 if relative else 1.0
        spread = None if line.spread is None else line.spread / unit
        axes.errorbar(row.delta / unit, height - 0.12, xerr=spread, fmt="o", color=hue, markersize=6, capsize=3)
    if row.paper_delta is not None and row.paper_ppl is not None:
        unit = (row.paper_ppl - row.paper_delta) / 100 if relative else 1.0
        axes.plot(
            row.paper_delta / unit, height + 0.12, "o", markersize=7, markerfacecolor="white", markeredgecolor=hue
        )


def _delta_legend() -> list[Line2D]:
    grey: dict[str, Any] = {"color": "#4d4d4d", "linestyle": "none", "marker": "o"}
    return [
        Line2D([], [], label="here, ± s over seeds", **grey),
        Line2D([], [], label="published", markerfacecolor="white", **grey),
    ]


def _best(table: Table) -> str:
    mean, label = min((line.row.ppl_mean, line.cell.label) for line in table.lines if line.row.ppl_mean is not None)
    return f"Lowest at the end: {label} with {mean:.{published.DECIMALS}f}."


def _signs(table: Table) -> str:
    signs = [line.sign for line in table.lines]
    agree, differ, undecided = (signs.count(sign) for sign in "✓✗~")
    return f"The sign agrees with the paper in {agree}, differs in {differ} and is undecided in {undecided}."
