"""Pictures of results as plain data: curves while training, in one panel or a grid of them, and Δ beside the paper's.

All of them show only the runs that count. A model has the same colour in every picture of a page.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import pandas as pd

from diffmamba.document import Chart, Panel, Series
from diffmamba.reports.cells import AGREES, DISAGREES, UNDECIDED, Cell, Key, Results

GREY = "#4d4d4d"
LATE = 0.65  # the end of training, as a share, whose heights a panel of `panels` shows
TRAINING = (
    "While training: {metric}, mean over the seeds that count. The band reaches from the lowest to the highest seed. "
)
PANELS = (
    f"Each panel shows the heights of the last {LATE:.0%} of training, where the curves lie close together. What is "
    "outside is cut off. A panel is named after the paper's; what was trained for it instead stands in brackets."
)
DELTAS = (
    "{difference} to {baseline}: filled dots are our runs, with s to either side if at least two seeds are shared with "
    "the baseline. Hollow dots are the paper's."
)


def curve(cell: Cell) -> pd.DataFrame:
    """Step, epoch, symbols, and mean, low and high over seeds, at the evaluations that all seeds that count share."""
    evaluations = [point for run in cell.counted for point in run.curve(cell.metric)]
    steps = pd.DataFrame(evaluations, columns=["step", "epoch", "symbols", "value"]).groupby("step")
    value = {"mean": ("value", fmean), "low": ("value", "min"), "high": ("value", "max")}
    points = steps.agg(epoch=("epoch", "first"), symbols=("symbols", "first"), **value)
    return points[steps.size() == len(cell.counted)].reset_index()


def points(results: Results) -> pd.DataFrame:
    """All points of all curves, a row each: the key of the cell, its seeds, where the point lies, and its values."""
    rows = [
        cell.key.fields | {"seeds": " ".join(str(run.seed) for run in cell.counted)} | point
        for cell in results.cells
        for point in curve(cell).to_dict("records")
    ]
    columns = [*results.cells[0].key.fields, "seeds", "step", "epoch", "symbols", "mean", "low", "high"]
    names = {column: f"{results.metric.name}_{column}" for column in ("mean", "low", "high")}
    return pd.DataFrame(rows, columns=columns).rename(columns=names)


def curves(results: Results, look: Callable[[Cell], dict[str, Any]], look_rule: str) -> list[Chart]:
    """All curves in one panel, and the last half of training enlarged beside it; no chart where there is no curve.

    `look` gives the line and marker of a cell, as fields of `Series`, and `look_rule` says this to the reader.
    """
    metric, cells = results.metric, [cell for cell in results.cells if len(curve(cell))]
    if not cells:
        return []
    whole = _panel(results, "all of training", cells, look, share=1.0)
    late = _panel(results, "last half", cells, look, share=0.5)
    end = max(x for series in whole.series for x in series.x)
    best = (max if metric.better == "higher" else min)(cells, key=lambda cell: cell.mean or 0.0)
    return [
        Chart(
            name="curves",
            title="While training",
            panels=((replace(whole, y_label=metric.title), replace(late, x_range=(0.49 * end, 1.01 * end))),),
            alt=f"{metric.title} against training. {metric.best.capitalize()} at the end: {best.label} with "
            f"{metric.text(best.mean)}.",
            caption=f"{TRAINING.format(metric=metric.title)}{look_rule} The right panel enlarges the second half, "
            "where the lines lie close together.",
            size=(10, 3.9),
            widths=(1, 1.25),
        )
    ]


def panels(
    results: Results,
    name: str,
    place: Callable[[Key], tuple[Hashable, Hashable]],
    as_published: Callable[[Cell], bool],
) -> Chart:
    """A panel for each group of cells, with axes of its own; `place` gives the row and the column of a key.

    The published values are drawn only for cells trained `as_published`: elsewhere they are about something else.
    """
    title, found = results.metric.title, {place(cells[0].key): cells for cells in results.groups.values()}
    rows, columns = (list(dict.fromkeys(axis)) for axis in zip(*found, strict=True))
    drawn = {}
    for (row, column), cells in found.items():
        panel = _panel(results, cells[0].key.group.replace(" (", "\n("), cells, lambda cell: {"marker": "o"}, LATE)
        end = 1.05 * max((x for series in panel.series for x in series.x), default=0.0)
        published = [
            Series("", (0.0, end), (value, value), results.hues[cell.key.model], line="dotted", width=1.2)
            for cell in cells
            if end and as_published(cell) and (value := cell.key.published.value) is not None
        ]
        side = title * (column == columns[0])
        drawn[row, column] = replace(panel, series=(*panel.series, *published), x_range=(0.0, end), y_label=side)
    ends = [f"{cell.label} {results.metric.text(cell.mean)}" for cell in results.cells if cell.mean is not None]
    return Chart(
        name=name,
        title="While training",
        panels=tuple(tuple(drawn.get((row, column)) for column in columns) for row in rows),
        alt=f"{title} against training. " + (f"At the end: {'; '.join(ends)}." if ends else "No run yet."),
        caption=TRAINING.format(metric=title) + PANELS,
        size=(0.4 + 3.2 * len(columns), 0.7 + 2.6 * len(rows)),
        legend=(
            *(_legend(model, results.hues[model], marker="o") for model in _models(results)),
            _legend("lowest to highest seed", line=""),
            *[_legend("published, at the end", line="dotted")] * any(map(as_published, results.cells)),
        ),
    )


def deltas(results: Results, baseline: str, relative: bool = False) -> list[Chart]:
    """Δ of each cell with its spread, and the paper's Δ beside it; no chart where there is neither.

    `relative` shows Δ in percent of the baseline's value, for cells that are measured on different symbols.
    """
    others = [cell for cell in results.cells if not cell.key.is_baseline]
    shown = [cell for cell in others if cell.delta is not None or cell.key.published.delta is not None]
    if not shown:
        return []
    label, better = results.metric.label, results.metric.verdict("left", "right")
    difference = f"Δ in percent of {label}" if relative else "Δ"
    signs = [cell.sign for cell in results.cells]
    agree, differ, open_ = (signs.count(sign) for sign in (AGREES, DISAGREES, UNDECIDED))
    panel = Panel(
        title="",
        series=tuple(
            s for y, cell in enumerate(shown) for s in _delta(cell, y, results.hues[cell.key.model], relative)
        ),
        x_label=f"Δ {label} to {baseline}" + ", %" * relative + f"\n({better})" * bool(better),
        y_names=tuple(cell.label for cell in shown),
        lines_at=(("x", 0.0),),
    )
    dots = {"line": "", "marker": "o"}
    return [
        Chart(
            name="deltas",
            title="Against the paper",
            panels=((panel,),),
            alt=f"{difference} to {baseline} for each cell. The sign agrees with the paper in {agree}, differs in "
            f"{differ} and is undecided in {open_}.",
            caption=DELTAS.format(difference=difference, baseline=baseline),
            size=(8, 1.2 + 0.28 * len(shown)),
            broad=False,
            legend=(_legend("here, ± s over seeds", **dots), _legend("published", hollow=True, **dots)),
        )
    ]


def _panel(
    results: Results, title: str, cells: Sequence[Cell], look: Callable[[Cell], dict[str, Any]], share: float
) -> Panel:
    """The curves of these cells, at the heights that they have in the last `share` of training."""
    found = [(cell, points) for cell in cells if len(points := curve(cell))]
    if not found:
        return Panel(title, ())
    by_epoch = max(points["epoch"].max() for _, points in found) >= 1  # once over the corpus or more
    axis = "epoch" if by_epoch else "symbols"
    drawn = [
        Series(
            cell.label,
            x=tuple(map(float, points[axis])),
            y=tuple(points["mean"]),
            colour=results.hues[cell.key.model],
            low=tuple(points["low"]),
            high=tuple(points["high"]),
            **look(cell),
        )
        for cell, points in found
    ]
    begin = (1 - share) * max(points[axis].max() for _, points in found)
    late = [y for series in drawn for x, y in zip(series.x, series.y, strict=True) if x >= begin]
    margin = 0.08 * (max(late) - min(late)) or 0.01
    heights = (min(late) - margin, max(late) + margin)
    label = "training epochs" if by_epoch else "symbols seen"
    return Panel(title, tuple(drawn), label, y_range=heights if share < 1 else None, x_engineering=not by_epoch)


def _delta(cell: Cell, height: int, hue: str, relative: bool) -> Iterable[Series]:
    """Ours a little above the cell's height and the paper's a little below, so that equal ones stay visible."""
    ours, paper = (cell.mean, cell.delta), (cell.key.published.value, cell.key.published.delta)
    for (value, delta), shift, spread in ((ours, -0.12, cell.spread), (paper, 0.12, None)):
        if value is not None and delta is not None:
            unit = abs(value - delta) / 100 if relative else 1.0
            error = () if spread is None else (spread / unit,)
            place = ((delta / unit,), (height + shift,))
            yield Series("", *place, hue, line="", marker="o", hollow=shift > 0, error=error)


def _models(results: Results) -> list[str]:
    return list(dict.fromkeys(cell.key.model for cell in results.cells))


def _legend(label: str, colour: str = GREY, **look: Any) -> Series:
    return Series(label, (), (), colour, **look)
