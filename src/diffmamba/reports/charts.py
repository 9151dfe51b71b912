"""Pictures of results as plain data: curves while training, and Δ beside the paper's.

All of them show only the runs that count. A model has the same colour in every picture of a page.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import cycle
from typing import Any

import pandas as pd

from diffmamba.document import Chart, Panel, Series
from diffmamba.reports.cells import Cell, Results

Look = Callable[[Cell], dict[str, Any]]
GREY = "#4d4d4d"
HUES = {"mamba": GREY, "diff_s6": "#d55e00", "diff_mamba": "#0072b2"}
OTHER_HUES = ("#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # all of Okabe and Ito
CURVES = "The mean of {metric} over the seeds that count. The band reaches from the lowest to the highest seed."
DELTAS = "Filled dots are our runs, with s to either side if there is one. Hollow dots are the paper's."


def hues(results: Results) -> dict[str, str]:
    """The colour of each model."""
    others = dict.fromkeys(model for cell in results.cells if (model := cell.key.fields["model"]) not in HUES)
    return HUES | dict(zip(others, cycle(OTHER_HUES), strict=False))


def curve(cell: Cell) -> pd.DataFrame:
    """Step, epoch, symbols, and mean, low and high over seeds, at the evaluations that all seeds that count share."""
    names = {"step": "step", "epoch": "epoch", "tokens": "symbols", cell.metric.key: "value"}
    evaluations = [at for run in cell.seeds if run.value is not None for at in run.record.get("evaluations") or []]
    frame = pd.DataFrame(evaluations, columns=list(names)).rename(columns=names)
    frame = frame.apply(pd.to_numeric, errors="coerce").replace(math.inf, math.nan)
    steps = frame.dropna().groupby("step")
    value = {"mean": ("value", "mean"), "low": ("value", "min"), "high": ("value", "max")}
    points = steps.agg(epoch=("epoch", "first"), symbols=("symbols", "first"), **value)
    return points[steps.size() == len(cell.values)].reset_index()


def points(results: Results) -> pd.DataFrame:
    """All points of all curves, a row each: the key of the cell, its seeds, where the point lies, and its values."""
    rows = [
        cell.key.fields | {"seeds": " ".join(map(str, cell.values))} | point
        for cell in results.cells
        for point in curve(cell).to_dict("records")
    ]
    columns = [*results.cells[0].key.fields, "seeds", "step", "epoch", "symbols", "mean", "low", "high"]
    names = {column: f"{results.metric.name}_{column}" for column in ("mean", "low", "high")}
    return pd.DataFrame(rows, columns=columns).rename(columns=names)


def curves(name: str, results: Results, panels: Iterable[Sequence[Panel]], rule: str) -> Chart:
    """Curves while training, in rows of panels from `panel`. `rule` says how to read them."""
    rows = tuple((first, *(replace(panel, y_label="") for panel in others)) for first, *others in filter(None, panels))
    alt = f"Curves of {results.metric.key} while training. The table says where they end."
    caption = f"{CURVES.format(metric=results.metric.key)} {rule}"
    return Chart(name, "While training", rows, alt, caption, size=(10, 1.4 + 2.6 * len(rows)))


def panel(
    results: Results, title: str, cells: Sequence[Cell], late: float = 1.0, look: Look = lambda cell: {"marker": "o"}
) -> Panel:
    """The curves of these cells, with a dotted line at the published value of those trained as published.

    `look` is how a cell is drawn, as fields of `Series`. Only the last part of training is shown, as the share `late`.
    """
    drawn = [(cell, points) for cell in cells if len(points := curve(cell))]
    if not drawn:
        return Panel(title, ())
    by_epoch = max(points["epoch"].max() for _, points in drawn) >= 1  # once over the corpus or more
    axis, colours = "epoch" if by_epoch else "symbols", hues(results)
    end = max(float(points[axis].max()) for _, points in drawn) or 1.0
    heights = pd.concat([points["mean"][points[axis] >= (1 - late) * end] for _, points in drawn])
    margin = 0.08 * (heights.max() - heights.min()) or 0.01
    series = []
    for cell, points in drawn:
        model, paper = cell.key.fields["model"], cell.key.published.value
        x, y, low, high = (tuple(points[column].astype(float)) for column in (axis, "mean", "low", "high"))
        series.append(Series(x=x, y=y, low=low, high=high, colour=colours[model], **{"label": model, **look(cell)}))
        if results.scale == "paper" and cell.key.as_published and paper is not None:
            series.append(
                Series("published, at the end", (0, end), (paper, paper), colours[model], line="dotted", width=1.2)
            )
    return Panel(
        title,
        tuple(series),
        x_label="training epochs" if by_epoch else "symbols seen",
        y_label=results.metric.label,
        x_range=((1 - late) * end, 1.03 * end),
        y_range=(float(heights.min() - margin), float(heights.max() + margin)),
        x_engineering=not by_epoch,
    )


def deltas(results: Results, baseline: str, relative: bool = False) -> Chart:
    """Δ of each cell with its spread, and the paper's Δ beside it.

    `relative` shows Δ in percent of the baseline's value, for cells that are measured on different symbols.
    """
    others = [cell for cell in results.cells if not cell.key.is_baseline]
    shown = [cell for cell in others if cell.delta is not None or cell.key.published.delta is not None]
    better, colours = results.metric.verdict("left", "right"), hues(results)
    difference = f"Δ {results.metric.label} to {baseline}" + ", %" * relative
    legend = (
        Series("", (0.0, 0.0), (-0.5, len(shown) - 0.5), GREY, width=0.8),  # a line at no difference
        Series("here, ± s over seeds", (), (), GREY, line="", marker="o"),
        Series("published", (), (), GREY, line="", marker="o", hollow=True),
    )
    found = [dot for y, cell in enumerate(shown) for dot in _dots(cell, y, colours[cell.key.fields["model"]], relative)]
    x_label, names = difference + f"\n({better})" * bool(better), tuple(cell.key.label for cell in shown)
    panel = Panel("", (*legend, *found) if found else (), x_label=x_label, y_names=names)
    alt = f"{difference} of each cell, beside the paper's. The table holds these numbers."
    return Chart("deltas", "Against the paper", ((panel,),), alt, DELTAS, size=(8, 1.6 + 0.28 * len(shown)))


def _dots(cell: Cell, height: int, hue: str, relative: bool) -> Iterable[Series]:
    """Ours a little above the cell's height and the paper's a little below, so that equal ones stay visible."""
    ours, paper = (cell.mean, cell.delta), (cell.key.published.value, cell.key.published.delta)
    for (value, delta), shift, spread in ((ours, -0.12, cell.spread), (paper, 0.12, None)):
        if value is not None and delta is not None:
            unit = abs(value - delta) / 100 if relative else 1.0
            error = () if spread is None else (spread / unit,)
            at = (delta / unit,), (height + shift,)
            yield Series("", *at, hue, line="", marker="o", hollow=shift > 0, error=error)
