"""The learning rate by epoch under both readings of optimizer.schedule, as SVG."""

from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from diffmamba.audit.budget import SCHEDULES, budget, distinct, schedule_length
from diffmamba.audit.cells import Cell
from diffmamba.audit.result import Result
from diffmamba.reports.drawing import STYLE, rendered
from diffmamba.tasks.optimization import warmup_cosine

HUES = {"wikitext103": "#0072b2", "text8": "#d55e00", "enwik8": "#009e73"}  # of Okabe and Ito
OTHER_HUE = "#4d4d4d"
DASHES: dict[str, Any] = {"published": "-", "to_end": (0, (1, 1.5))}
WIDTHS = {6: 1.2, 12: 2.4}
POINTS = 400


def learning_rates(result: Result) -> bytes:
    """Left: share of the peak; right: the rate itself."""
    cells = distinct([found.cell for found in result.audited])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 3.6), layout="constrained")
        share, absolute = figure.subplots(1, 2)
        for cell in cells:
            for schedule in SCHEDULES:
                _draw(share, cell, schedule, peak=1.0)
                if cell.table == "table1":
                    _draw(absolute, cell, schedule, peak=cell.config["optimizer"]["learning_rate"])
        share.set(xlabel="epoch", ylabel="share of the peak rate", ylim=(0, 1.03))
        absolute.set(xlabel="epoch", ylabel="learning rate", yscale="log", ylim=(1e-6, 1e-3))
        figure.legend(handles=_legend(cells), loc="outside right center")
        return rendered(figure, "svg")


def _draw(axes: Axes, cell: Cell, schedule: str, peak: float) -> None:
    spent, length = budget(cell), schedule_length(cell, schedule)
    warmup = cell.config["optimizer"]["warmup_steps"]
    steps = sorted({*range(0, spent.steps, max(1, spent.steps // POINTS)), min(warmup, spent.steps), spent.steps})
    axes.plot(
        [step / spent.steps_per_epoch for step in steps],
        [peak * warmup_cosine(step, warmup, length) for step in steps],
        **_stroke(cell, schedule),
    )


def _stroke(cell: Cell, schedule: str) -> dict[str, Any]:
    hue = HUES.get(cell.data, OTHER_HUE) if cell.table == "table1" else OTHER_HUE
    return {"color": hue, "linestyle": DASHES[schedule], "linewidth": WIDTHS.get(cell.layers, 1.2)}


def _legend(cells: list[Cell]) -> list[Line2D]:
    lines = [Line2D([], [], label=_label(cell), **_stroke(cell, "published")) for cell in cells]
    readings = [Line2D([], [], label=name, color="#888888", linestyle=dash) for name, dash in DASHES.items()]
    return [*lines, *readings]


def _label(cell: Cell) -> str:
    return f"{cell.data}, {cell.layers} layers" + (", table 2" if cell.table == "table2" else "")
