"""Any `Chart` as plain data for the script of our pages, `templates/charts.js`, which draws it with BokehJS.

The picture of a page stays in it for readers without the script. Fields that have their default are left out, and
points that several series share are told once, so that a chart of many blocks stays small.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from diffmamba.document import Chart, Panel, Series

DIGITS = 7  # of a number: no screen shows more
POINTS = ("x", "y", "low", "high", "error")
Shared = dict[tuple[float, ...], int]
"""The lists of numbers of a chart, each with its place."""


def as_json(chart: Chart) -> str:
    """The chart as JSON. Series name their points by their place in `points`."""
    shared: Shared = {}
    rows = [[_panel(panel, shared) for panel in row] for row in chart.panels]
    told = {"name": chart.name, "title": chart.title, "alt": chart.alt, "size": list(chart.size), "rows": rows}
    points = ",".join(map(_numbers, shared))
    return f'{json.dumps(told, ensure_ascii=False, separators=(",", ":"))[:-1]},"points":[{points}]}}'


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


def _numbers(values: Iterable[float]) -> str:
    """The numbers with a few digits; null for those that are none, as JSON has neither NaN nor infinity."""
    return f"[{','.join([f'{value:.{DIGITS}g}' if math.isfinite(value) else 'null' for value in values])}]"
