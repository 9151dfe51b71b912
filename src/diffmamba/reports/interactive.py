"""Any `Chart` as plain data for the script of our pages, `templates/charts.js`, which draws it with BokehJS.

The picture of a page stays in it for readers without the script. Fields that have their default are left out, and
points that several series share are told once, so that a chart of many blocks stays small.
"""

import math
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from diffmamba.document import Chart, Panel, Series

DIGITS = 6  # of a number, which no screen shows better
POINTS = ("x", "y", "low", "high", "error")
Shared = dict[tuple[float, ...], int]
"""The lists of numbers of a chart, each with its place."""


def plain(chart: Chart) -> dict[str, Any]:
    """The chart as JSON can hold it. Series name their points by their place in `points`."""
    shared: Shared = {}
    rows = [[_panel(panel, shared) for panel in row] for row in chart.panels]
    return {
        **{"name": chart.name, "title": chart.title, "alt": chart.alt, "size": list(chart.size)},
        **{"rows": rows, "points": [[_number(value) for value in points] for points in shared]},
    }


def _panel(panel: Panel, shared: Shared) -> dict[str, Any]:
    return _told(panel) | {"series": [_series(series, shared) for series in panel.series]}


def _series(series: Series, shared: Shared) -> dict[str, Any]:
    found = _told(series)
    for name in POINTS:
        if values := getattr(series, name):
            found[name] = shared.setdefault(tuple(values), len(shared))
    return found


def _told(part: Any) -> dict[str, Any]:
    """The fields of a panel or a series that have not their default, but for those that hold points."""
    values = ((one.name, getattr(part, one.name), one.default) for one in fields(part))
    return {
        name: _value(value) for name, value, default in values if value != default and name not in ("series", *POINTS)
    }


def _value(value: Any) -> Any:
    return [_value(one) for one in value] if isinstance(value, Iterable) and not isinstance(value, str) else value


def _number(value: float) -> float | None:
    """The number with a few digits; None where it is none, as JSON has neither NaN nor infinity."""
    if not math.isfinite(value):
        return None
    return int(value) if float(value).is_integer() and abs(value) < 10**12 else float(f"{value:.{DIGITS}g}")
