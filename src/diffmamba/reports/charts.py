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

GREY = "#4d4d4d"
HUES = {"mamba": GREY, "diff_s6": "#d55e00", "diff_mamba": "#0072b2"}
"""The colours of the paper's models, of Okabe and Ito."""
OTHER_HUES = ("#009e73", "#cc79a7", "#e69f00", "#56b4e9")
TRAINING = "{metric}, mean over the seeds that count. The band reaches from the lowest to the highest seed. {rule}"
DELTAS = (
    "{difference} to {baseline}: filled dots are our runs, with s to either side if at least two seeds are shared with "
    "the baseline. Hollow dots are the paper's."
)


def hues(results: Results) -> dict[str, str]:
    """The colour of each model."""
    others = dict.fromkeys(cell.key.model for cell in results.cells if cell.key.model not in HUES)
    return HUES | dict(zip(others, cycle(OTHER_HUES), strict=False))


def curve(cell: Cell) -> pd.DataFrame:
    """Step, epoch, symbols, and mean, low and high over seeds, at the evaluations that all seeds that count share."""
    evaluations = [found for run in cell.counted for found in run.record.get("evaluations") or []]
    frame = pd.DataFrame(evaluations, columns=["step", "epoch", "tokens", cell.metric.key]).replace(math.inf, math.nan)
    steps = frame.dropna().astype({"epoch": float, cell.metric.key: float}).groupby("step")
    value = {name: (cell.metric.key, how) for name, how in (("mean", "mean"), ("low", "min"), ("high", "max"))}
    points = steps.agg(epoch=("epoch", "first"), symbols=("tokens", "first"), **value)
    return points[steps.size() == len(cell.counted)].reset_index()


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
    rows = tuple((first, *(replace(panel, y_label="") for panel in others)) for first, *others in panels)
    return Chart(
        name=name,
        title="While training",
        panels=rows,
        alt=f"Curves of {results.metric.title} while training. The table says where they end.",
        caption=TRAINING.format(metric=results.metric.title, rule=rule),
        size=(10, 1.4 + 2.6 * len(rows)),
    )


def panel(
    results: Results,
    cells: Sequence[Cell],
    look: Callable[[Cell], dict[str, Any]],
    title: str,
    late: float = 1.0,
    enlarged: bool = False,
) -> Panel:
    """The curves of these cells, each with a dotted line at its published value if it was trained as published.

    Args:
        look: how a cell is drawn, as fields of `Series`.
        late: the share of training, counted from its end, that sets the heights; what is outside is cut off.
        enlarged: whether the panel shows this share of training only.
    """
    drawn = [(cell, points) for cell in cells if len(points := curve(cell))]
    if not drawn:
        return Panel(title, ())
    by_epoch = max(points["epoch"].max() for _, points in drawn) >= 1  # once over the corpus or more
    axis, colours = "epoch" if by_epoch else "symbols", hues(results)
    end = max(float(points[axis].max()) for _, points in drawn)
    heights = pd.concat([points["mean"][points[axis] >= (1 - late) * end] for _, points in drawn])
    margin = 0.08 * (heights.max() - heights.min()) or 0.01
    series = [
        Series(
            **{"label": cell.key.label, "colour": colours[cell.key.model], **look(cell)},
            x=tuple(map(float, points[axis])),
            y=tuple(points["mean"]),
            low=tuple(points["low"]),
            high=tuple(points["high"]),
        )
        for cell, points in drawn
    ] + [
        Series("published, at the end", (0.0, end), (value, value), colours[cell.key.model], line="dotted", width=1.2)
        for cell, _ in drawn
        if results.scale == "paper" and cell.key.as_published and (value := cell.key.published.value) is not None
    ]
    return Panel(
        title,
        tuple(series),
        x_label="training epochs" if by_epoch else "symbols seen",
        y_label=results.metric.title,
        x_range=((1 - late) * end * enlarged, 1.03 * end),
        y_range=(float(heights.min() - margin), float(heights.max() + margin)),
        x_engineering=not by_epoch,
    )


def deltas(results: Results, baseline: str, relative: bool = False) -> Chart:
    """Δ of each cell with its spread, and the paper's Δ beside it.

    `relative` shows Δ in percent of the baseline's value, for cells that are measured on different symbols.
    """
    others = [cell for cell in results.cells if not cell.key.is_baseline]
    shown = [cell for cell in others if cell.delta is not None or cell.key.published.delta is not None]
    label, better = results.metric.label, results.metric.verdict("left", "right")
    difference = f"Δ in percent of {label}" if relative else "Δ"
    colours = hues(results)
    legend = (
        Series("", (0.0, 0.0), (-0.5, len(shown) - 0.5), GREY, width=0.8),  # a line at no difference
        Series("here, ± s over seeds", (), (), GREY, line="", marker="o"),
        Series("published", (), (), GREY, line="", marker="o", hollow=True),
    )
    found = (series for y, cell in enumerate(shown) for series in _delta(cell, y, colours[cell.key.model], relative))
    panel = Panel(
        title="",
        series=(*legend, *found) if shown else (),
        x_label=f"Δ {label} to {baseline}" + ", %" * relative + f"\n({better})" * bool(better),
        y_names=tuple(cell.key.label for cell in shown),
    )
    return Chart(
        name="deltas",
        title="Against the paper",
        panels=((panel,),),
        alt=f"{difference} to {baseline} of each cell, beside the paper's. The table holds these numbers.",
        caption=DELTAS.format(difference=difference, baseline=baseline),
        size=(8, 1.6 + 0.28 * len(shown)),
    )


def _delta(cell: Cell, height: int, hue: str, relative: bool) -> Iterable[Series]:
    """Ours a little above the cell's height and the paper's a little below, so that equal ones stay visible."""
    paper = cell.key.published
    for value, delta, spread, shift in (
        (cell.mean, cell.delta, cell.spread, -0.12),
        (paper.value, paper.delta, None, 0.12),
    ):
        if value is not None and delta is not None:
            unit = abs(value - delta) / 100 if relative else 1.0
            error = () if spread is None else (spread / unit,)
            at = (delta / unit,), (height + shift,)
            yield Series("", *at, hue, line="", marker="o", hollow=shift > 0, error=error)
