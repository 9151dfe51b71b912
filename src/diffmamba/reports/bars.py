"""Bars of any results: for each group a bar for each model, with the interval of its mean, beside the paper's value."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from diffmamba.document import Panel, Series
from diffmamba.reports.cells import Cell, Results
from diffmamba.reports.charts import hues

FILLED = 0.8  # of the room of a group
INK = "#1c1e21"
PUBLISHED = "published"


def bars(results: Results, name: Callable[[str], str] = str, y_range: tuple[float, float] | None = None) -> Panel:
    """The mean of each cell, groups along x in the order of the table; the empty panel where nothing counts.

    `name` is how a group is called below its bars.
    """
    models = list(dict.fromkeys(cell.key.fields["model"] for cell in results.cells))
    if not results.counted:
        return Panel("", ())
    series, width, colours = [], FILLED / len(models), hues(results)
    published: list[tuple[float, float]] = []
    for place, model in enumerate(models):
        shift = (place - (len(models) - 1) / 2) * width
        placed = [
            (x + shift, cell)
            for x, cells in enumerate(results.groups.values())
            for cell in cells
            if cell.key.fields["model"] == model
        ]
        series.append(_bars(model, placed, 0.9 * width, colours[model]))
        values = [(x, cell.key.published.value) for x, cell in placed]
        published += [(x, value) for x, value in values if value is not None]
    if published:
        x, y = (tuple(column) for column in zip(*sorted(published), strict=True))
        series.append(Series(PUBLISHED, x, y, INK, line="", marker="D", hollow=True))
    names = tuple(map(name, results.groups))
    return Panel("", tuple(series), y_label=results.metric.label, y_range=y_range, x_names=names)


def _bars(model: str, placed: Sequence[tuple[float, Cell]], width: float, hue: str) -> Series:
    """The bars of a model: those of its cells that have a mean."""
    shown = [(x, cell.mean, cell.mean_interval) for x, cell in placed if cell.mean is not None]
    low = tuple(math.nan if found is None else found.low for _, _, found in shown)
    high = tuple(math.nan if found is None else found.high for _, _, found in shown)
    x, y = tuple(x for x, _, _ in shown), tuple(mean for _, mean, _ in shown)
    bars = Series(model, x, y, hue, line="", bar=width)
    return replace(bars, low=low, high=high) if any(found for *_, found in shown) else bars
