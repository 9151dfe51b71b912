"""Bars of any results: for each group a bar for each model, with the interval of its mean, and the paper's beside it."""

import math
from collections.abc import Callable, Sequence

from diffmamba.document import Panel, Series
from diffmamba.reports.cells import Cell, Results
from diffmamba.reports.charts import hues

FILLED = 0.8  # of the room of a group
PUBLISHED = "published"


def bars(
    results: Results, name: Callable[[str], str] = str, y_range: tuple[float, float] | None = None, paper: str = PUBLISHED
) -> Panel:
    """The mean of each cell, groups along x in the order of the table; the empty panel where nothing counts.

    `name` is how a group is called below its bars, `paper` the label of the marks at the paper's values.
    """
    groups = results.groups
    models = list(dict.fromkeys(cell.key.fields["model"] for cell in results.cells))
    if not results.counted:
        return Panel("", ())
    series, width, colours = [], FILLED / len(models), hues(results)
    published: list[tuple[float, float]] = []
    for place, model in enumerate(models):
        at = [(x, cell) for x, cells in enumerate(groups.values()) for cell in cells if cell.key.fields["model"] == model]
        shift = (place - (len(models) - 1) / 2) * width
        series.append(_bars(model, [(x + shift, cell) for x, cell in at], 0.9 * width, colours[model]))
        values = [(x + shift, cell.key.published.value) for x, cell in at]
        published += [(x, value) for x, value in values if value is not None]
    if published:
        x, y = (tuple(column) for column in zip(*sorted(published), strict=True))
        series.append(Series(paper, x, y, "#1c1e21", line="", marker="D", hollow=True))
    names = tuple(map(name, groups))
    return Panel("", tuple(series), y_label=results.metric.label, y_range=y_range, x_names=names)


def _bars(model: str, placed: Sequence[tuple[float, Cell]], width: float, hue: str) -> Series:
    """The bars of a model: those of its cells that have a mean."""
    shown = [(x, cell.mean, cell.mean_interval) for x, cell in placed if cell.mean is not None]
    low = tuple(math.nan if found is None else found.low for _, _, found in shown)
    high = tuple(math.nan if found is None else found.high for _, _, found in shown)
    intervals = {"low": low, "high": high} if any(found for *_, found in shown) else {}
    x, y = tuple(x for x, _, _ in shown), tuple(mean for _, mean, _ in shown)
    return Series(model, x, y, hue, line="", bar=width, **intervals)
